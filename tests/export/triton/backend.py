"""A stand-in for Triton and the Python API of its backend.

It loads a repository, runs staged models with ONNX Runtime, and holds everybody to config.pbtxt:
names, types, dimensions and batch sizes of whatever goes in or comes out of a model.
"""

import importlib.util
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import schema

NUMPY = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64}


class Violation(Exception):
    """Somebody broke a promise of config.pbtxt."""


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE = range(5)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self._code = message, code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class TritonModelException(Exception):
    pass


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        if not array.flags.c_contiguous:
            array = np.ascontiguousarray(array)
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> np.ndarray:
        return self._array


class InferenceResponse:
    def __init__(
        self, output_tensors: Sequence[Tensor] = (), error: TritonError | None = None
    ) -> None:
        self._tensors, self._error = list(output_tensors), error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error


class PreferredMemory:
    def __init__(self, preferred_memory_type: int, preferred_device_id: int = 0) -> None:
        self.kind = preferred_memory_type


class InferenceRequest:
    """Made by clients (through `Server.infer`) and by business logic, which calls `exec`."""

    server: "Server"

    def __init__(
        self,
        *,
        inputs: list[Tensor],
        requested_output_names: list[str],
        model_name: str,
        preferred_memory: PreferredMemory | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self.model_name, self._inputs, self._names = model_name, inputs, requested_output_names
        self._memory, self._parameters = preferred_memory, parameters

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def requested_output_names(self) -> list[str]:
        return self._names

    def parameters(self) -> str:
        return json.dumps(self._parameters or {})

    def exec(self) -> InferenceResponse:
        # Without it the tensors of a stage on a GPU could not become arrays.
        if self._memory is None or self._memory.kind != Server.CPU:
            raise Violation("answers of a stage may come in the memory of a GPU")
        return self.server.run(self)


class Metric:
    def __init__(self, counts: Counter[tuple[str, ...]], key: tuple[str, ...]) -> None:
        self._counts, self._key = counts, key
        counts[key] += 0

    def increment(self, by: float) -> None:
        if by < 0:
            raise Violation("a counter never falls")
        self._counts[self._key] += by


class MetricFamily:
    COUNTER, GAUGE = range(2)
    counts: Counter[tuple[str, ...]]

    def __init__(self, name: str, description: str, kind: int) -> None:
        if kind != self.COUNTER or not description:
            raise Violation(f"{name} is no explained counter")
        self._name = name

    def Metric(self, labels: dict[str, str]) -> Metric:
        return Metric(self.counts, (self._name, *(f"{k}={v}" for k, v in sorted(labels.items()))))


class Server:
    """A repository, loaded.

    Attributes:
        configs: of the models by name.
        calls: name and rows of every call of a staged model.
        counts: metric name and labels -> number.
        broken: staged models that fail, with the error.
    """

    CPU = 0

    def __init__(self, repository: Path) -> None:
        self.configs, self.sessions, self.logic = {}, {}, {}
        self.calls: list[tuple[str, int]] = []
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.broken: dict[str, TritonError] = {}
        self._lent: list[np.ndarray] = []
        self.api = self._api()
        for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
            config = schema.parse((folder / "config.pbtxt").read_text(encoding="utf-8"))
            if config.name != folder.name:
                raise Violation(f"{folder.name} calls itself {config.name}")
            self.configs[config.name] = config
            if config.backend == "onnxruntime":
                self.sessions[config.name] = _session(folder / "1" / "model.onnx")
            else:
                self.logic[config.name] = self._load(folder / "1" / "model.py", config)

    def infer(self, model: str, asked: list[dict[str, Any]]) -> list[Any]:
        """Answer client requests that came together; a dict of arrays each, or a TritonError.

        Args:
            model: business logic.
            asked: tensors by name; "parameters" are the request's.
        """
        requests, config = [], self.configs[model]
        for one in asked:
            tensors = [Tensor(k, v) for k, v in one.items() if k != "parameters"]
            names = [output.name for output in config.output]
            requests.append(
                self.api.InferenceRequest(
                    inputs=tensors, requested_output_names=names, model_name=model,
                    parameters=one.get("parameters"),
                )
            )  # fmt: skip
            check(config, config.input, tensors)
        rows = [len(request.inputs()[0].as_numpy()) for request in requests]
        if sum(rows) > config.max_batch_size:
            raise Violation(f"{sum(rows)} rows came together")
        responses = self.logic[model].execute(requests)
        if len(responses) != len(requests):
            raise Violation(f"{len(responses)} responses for {len(requests)} requests")
        answers = []
        for count, response in zip(rows, responses, strict=True):
            if response.has_error():
                answers.append(response.error())
                continue
            check(config, config.output, response.output_tensors(), count)
            answers.append({t.name(): t.as_numpy() for t in response.output_tensors()})
        return answers

    def run(self, request: InferenceRequest) -> InferenceResponse:
        """Run a staged model as Triton does: whatever is wrong is the response's error."""
        name = request.model_name
        if name not in self.sessions:
            return InferenceResponse(error=TritonError(f"unknown model {name!r}", 2))
        config = self.configs[name]
        try:
            rows = check(config, config.input, request.inputs())
            wrong = set(request.requested_output_names()) - {o.name for o in config.output}
            if wrong:
                raise Violation(f"{name} has no output {wrong}")
        except Violation as error:
            return InferenceResponse(error=TritonError(str(error), TritonError.INVALID_ARG))
        self.calls.append((name, rows))
        while self._lent:  # what earlier calls answered is Triton's memory, and used again
            self._lent.pop().fill(-1)
        if name in self.broken:
            return InferenceResponse(error=self.broken[name])
        names = list(request.requested_output_names())
        feed = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        outputs = [
            Tensor(*pair) for pair in zip(names, self.sessions[name].run(names, feed), strict=True)
        ]
        check(config, [o for o in config.output if o.name in names], outputs, rows)
        self._lent += [output.as_numpy() for output in outputs]
        return InferenceResponse(outputs)

    def _api(self) -> ModuleType:
        module = ModuleType("triton_python_backend_utils")
        own = type("InferenceRequest", (InferenceRequest,), {"server": self})
        family = type("MetricFamily", (MetricFamily,), {"counts": self.counts})
        module.__dict__.update(
            Tensor=Tensor, TritonError=TritonError, TritonModelException=TritonModelException,
            InferenceRequest=own, InferenceResponse=InferenceResponse, MetricFamily=family,
            PreferredMemory=PreferredMemory, TRITONSERVER_MEMORY_CPU=self.CPU,
            get_input_tensor_by_name=lambda request, name: _named(request.inputs(), name),
            get_output_tensor_by_name=lambda response, name: _named(
                response.output_tensors(), name
            ),
        )  # fmt: skip
        return module

    def _load(self, file: Path, config: Any) -> Any:
        """Run a model.py as the backend does: with its API as a module, and nothing of exitkit."""
        spec = importlib.util.spec_from_file_location(f"{config.name}_model", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["triton_python_backend_utils"] = self.api
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules["triton_python_backend_utils"]
        model = module.TritonPythonModel()
        told = json.dumps(schema.as_json(config))
        model.initialize({"model_config": told, "model_name": config.name, "model_version": "1"})
        return model


def check(config: Any, promised: Any, tensors: list[Tensor], rows: int | None = None) -> int:
    """Hold tensors to a configuration and return their rows.

    Raises:
        Violation: a name, type or dimension differs, or there are too many rows.
    """
    found = {tensor.name(): tensor.as_numpy() for tensor in tensors}
    names = sorted(tensor.name() for tensor in tensors)
    known = {entry.name for entry in promised}
    needed = {entry.name for entry in promised if not getattr(entry, "optional", False)}
    if len(found) != len(tensors) or not needed <= set(found) <= known:
        raise Violation(f"{config.name} has {sorted(known)}, not {names}")
    for entry in promised:
        if entry.name not in found:
            continue
        array = found[entry.name]
        rows = len(array) if rows is None else rows
        # A backend sees the reshape, where there is one; only ONNX files here have any.
        dims = tuple(entry.reshape.shape) if entry.HasField("reshape") else tuple(entry.dims)
        kind = type(entry).DESCRIPTOR.fields_by_name["data_type"].enum_type
        if array.dtype != NUMPY[kind.values_by_number[entry.data_type].name]:
            raise Violation(f"{config.name}: {entry.name} is {array.dtype}")
        if array.shape != (rows, *dims):
            raise Violation(f"{config.name}: {entry.name} is {array.shape}, not {(rows, *dims)}")
    if not rows or rows > config.max_batch_size:
        raise Violation(f"{config.name} takes 1 to {config.max_batch_size} rows, not {rows}")
    return rows


def _named(tensors: list[Tensor], name: str) -> Tensor | None:
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
