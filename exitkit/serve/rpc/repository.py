"""Which models there are, and loading and unloading them; answers of the gRPC methods."""

import asyncio
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

from exitkit.errors import RequestError
from exitkit.serve import changes
from exitkit.serve.models import VERSION, Models
from exitkit.serve.rpc.calls import Context
from exitkit.serve.rpc.descriptors import CLASSES

# No model depends on another one: with and without its dependents is the same.
UNLOADING = ("unload_dependents",)


class Repository:
    """Answers calls about the models of a server; messages are of the classes in `descriptors`.

    Args:
        models: of the server.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    async def index(self, message: Any, context: Context) -> Any:
        """List every model that is served or could be loaded; with `ready`, those that answer."""
        _check(message)
        answer: Any = CLASSES["RepositoryIndexResponse"]()
        for one in await asyncio.to_thread(self.models.index):
            if one.state == "READY" or not message.ready:
                answer.models.add(
                    name=one.name, version=VERSION, state=one.state, reason=one.reason
                )
        return answer

    async def load(self, message: Any, context: Context) -> Any:
        """Load a model, or load it anew; answers once it takes requests."""
        _check(message, message.parameters)
        await changes.make(self.models.load, message.model_name)
        return CLASSES["RepositoryModelLoadResponse"]()

    async def unload(self, message: Any, context: Context) -> Any:
        """Unload a model; answers once all its requests are answered."""
        _check(message, message.parameters, UNLOADING)
        await changes.make(self.models.unload, message.model_name)
        return CLASSES["RepositoryModelUnloadResponse"]()


def _check(message: Any, parameters: Any = (), known: tuple[str, ...] = ()) -> None:
    """Refuse another repository, and parameters that would change a bundle."""
    if message.repository_name:
        raise RequestError(
            f"repository {brief(message.repository_name)}", "there is one", "name none"
        )
    for name in parameters:
        if name not in known:
            raise RequestError(
                f"parameter {brief(name)}",
                "is not offered here: a model is loaded as its bundle says",
                f"leave it out; known are: {', '.join(known) or 'none'}",
            )
