"""A server that speaks gRPC beside HTTP, and what clients send to it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from exitkit.serve import server
from exitkit.serve.rpc.descriptors import CLASSES

SERVICE = "/inference.GRPCInferenceService/"
# Red is sure at exit 2; blue, much paler, goes on to exit 4. As the network sees them.
RED, BLUE = (2.0, 0.0, 0.0), (0.0, 0.0, 0.1)


@dataclass(frozen=True)
class Address:
    """Where one server answers."""

    http: str
    grpc: str


@contextmanager
def serve(*bundles: Path, **settings: Any) -> Iterator[Address]:
    """Serve on free ports while the block runs."""
    port = free_port()
    with server(*bundles, threads=1, grpc_port=port, **settings) as url:
        yield Address(url, f"127.0.0.1:{port}")


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def images(*colours: tuple[float, float, float]) -> NDArray[np.float32]:
    """Return [n,3,32,32], each image of one colour."""
    table = np.asarray(colours, np.float32)[:, :, None, None]
    return np.ascontiguousarray(np.broadcast_to(table, (len(colours), 3, 32, 32)))


def tensor(array: NDArray[Any], name: str = "images", datatype: str = "FP32") -> triton.InferInput:
    """Return an input as Triton's client sends it."""
    found = triton.InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array)
    return found


def request(array: NDArray[Any], **fields: Any) -> Any:
    """Return a ModelInferRequest with raw images."""
    found: Any = CLASSES["ModelInferRequest"](model_name="colours", **fields)
    found.inputs.add(name="images", datatype="FP32", shape=array.shape)
    found.raw_input_contents.append(array.tobytes())
    return found


def output(answer: Any, name: str, kind: str) -> list[Any]:
    """Return an output's raw numbers."""
    names = [row.name for row in answer.outputs]
    return np.frombuffer(answer.raw_output_contents[names.index(name)], kind).tolist()


def unary(channel: grpc.Channel, name: str, message: Any, **options: Any) -> Any:
    """Call a method without anybody's client, with our own messages."""
    call = channel.unary_unary(
        SERVICE + name,
        request_serializer=type(message).SerializeToString,
        response_deserializer=CLASSES[f"{name}Response"].FromString,
    )
    return call(message, timeout=30, **options)
