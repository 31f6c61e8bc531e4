"""The methods of GRPCInferenceService: from protobuf to the models and back."""

import asyncio
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from exitkit.serve.models import Models
from exitkit.serve.protocol import describe, statistics
from exitkit.serve.rpc import answers
from exitkit.serve.rpc.calls import Calls, Context
from exitkit.serve.rpc.descriptors import CLASSES
from exitkit.serve.rpc.repository import Repository
from exitkit.serve.rpc.streams import Streams

SERVICE = "inference.GRPCInferenceService"


class Methods:
    """Answers the calls of a server; messages are of the classes in `descriptors`.

    Args:
        models: of the server.
        calls: what every call goes through.
    """

    def __init__(self, models: Models, calls: Calls) -> None:
        self.models, self.calls = models, calls

    def handlers(self) -> dict[str, grpc.RpcMethodHandler]:
        """Return what answers each method, by its name."""
        repository = Repository(self.models)
        unary = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ServerMetadata": self._server_metadata,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._config,
            "ModelStatistics": self._statistics,
            "ModelInfer": self._infer,
            "RepositoryIndex": repository.index,
            "RepositoryModelLoad": repository.load,
            "RepositoryModelUnload": repository.unload,
        }
        found = {
            name: self.calls.unary(name, CLASSES[f"{name}Request"], answer)
            for name, answer in unary.items()
        }
        streams = Streams(self.models, self.calls)
        found["ModelStreamInfer"] = self.calls.stream("ModelStreamInfer", streams.answer)
        return found

    async def _server_live(self, message: Any, context: Context) -> Any:
        return _make("ServerLive", {"live": True})

    async def _server_ready(self, message: Any, context: Context) -> Any:
        return _make("ServerReady", {"ready": self.models.ready})

    async def _server_metadata(self, message: Any, context: Context) -> Any:
        return _make("ServerMetadata", describe.server())

    async def _model_ready(self, message: Any, context: Context) -> Any:
        name, version = _name(message)
        ready = self.models.is_ready(name or self.models.names[0], version)
        return _make("ModelReady", {"ready": ready})

    async def _model_metadata(self, message: Any, context: Context) -> Any:
        return _make("ModelMetadata", describe.metadata(self.models.get(*_name(message))))

    async def _config(self, message: Any, context: Context) -> Any:
        return _make("ModelConfig", {"config": describe.config(self.models.get(*_name(message)))})

    async def _statistics(self, message: Any, context: Context) -> Any:
        if message.name:
            self.models.get(*_name(message))
            names = [message.name]
        else:
            entries = await asyncio.to_thread(self.models.index)  # which looks into folders
            names = [one.name for one in entries if one.state == "READY"]
        tables = await asyncio.to_thread(self.models.metrics.models)
        rows = [row for name in names for row in statistics.of(name, tables[name])]
        return _make("ModelStatistics", {"model_stats": rows})

    async def _infer(self, message: Any, context: Context) -> Any:
        return await answers.infer(self.models, message, context)


def _name(message: Any) -> tuple[str | None, str | None]:
    """Return name and version of the model that a message is about; None: not said."""
    return message.name or None, message.version or None


def _make(name: str, table: dict[str, Any]) -> Any:
    return ParseDict(table, CLASSES[f"{name}Response"]())
