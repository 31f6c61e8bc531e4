"""Small real bundles: random convolutions in real ONNX files, run by real sessions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exitkit import bundle
from exitkit.bundle import Manifest, Segment
from exitkit.engine import cuda, ort, trt
from exitkit.engine.engine import Engine
from exitkit.images import ImageSpec
from exitkit.policy.policy import Policy

from .host_gpu import HostCuda, HostTrt, Machine, with_engines

NETWORK = "e" * 64
CLASSES = ("cat", "dog", "eel", "fox", "gnu")
SIZE = 8
CHANNELS = {1: 4, 2: 6, 3: 8}


def write_segment(path: Path, exit: int, first: bool, deepest: bool) -> tuple[int, int, int]:
    """Write conv -> relu (-> hidden_out) -> mean -> gemm -> logits; return the input's shape."""
    random = np.random.default_rng(exit)
    inside, outside = 3 if first else CHANNELS[exit - 1], CHANNELS[exit]
    kernel = random.normal(0, 0.5, (outside, inside, 3, 3)).astype(np.float32)
    matrix = random.normal(0, 6.0, (outside, len(CLASSES))).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["hidden", "kernel"], ["sum"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sum"], ["hidden_out"]),
        helper.make_node("GlobalAveragePool", ["hidden_out"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix"], ["logits"]),
    ]
    shapes = {"hidden": inside, "hidden_out": outside}
    maps = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", d, SIZE, SIZE])
        for name, d in shapes.items()
    }
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(CLASSES)])
    graph = helper.make_graph(
        nodes,
        f"segment_{exit}",
        [maps["hidden"]],
        [logits] if deepest else [logits, maps["hidden_out"]],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(matrix, "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return inside, SIZE, SIZE


def write_bundle(folder: Path, exits: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Write a bundle whose segments are the given exits of one three-stage network."""
    folder.mkdir(parents=True)
    segments = []
    for k in exits:
        file = f"segment_{k}.onnx"
        shape = write_segment(folder / file, k, k == exits[0], k == exits[-1])
        segments.append(Segment(k, file, shape, macs=1000 * k))
    spec = ImageSpec(SIZE, SIZE, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    bundle.write_manifest(
        folder,
        Manifest("tiny", NETWORK, "tiny", "none", CLASSES, spec, tuple(segments), 6000, {}, {}),
    )
    count = len(exits)
    Policy(NETWORK, exits, (0.7,) * (count - 1), (1.0, 1.5, 0.8)[:count]).write(
        folder / bundle.POLICY
    )
    return folder


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "tiny", exits: tuple[int, ...] = (1, 2, 3)) -> Path:
        return write_bundle(tmp_path / "bundles" / name, exits)

    return make


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def engine(tiny: Path) -> Engine:
    segments = ort.load(tiny, bundle.read_manifest(tiny), threads=1)
    return Engine(segments, Policy.read(tiny / bundle.POLICY))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    random = np.random.default_rng(7)
    loud = random.uniform(0.2, 2.0, (64, 1, 1, 1))
    return (random.normal(0, 1, (64, 3, SIZE, SIZE)) * loud).astype(np.float32)


@pytest.fixture(scope="session")
def table(engine: Engine, images: np.ndarray) -> np.ndarray:
    """Logits [K, N, C] of every exit for every image, run without leaving."""
    rows, hidden = [], images
    for segment in engine.segments:
        logits, hidden = segment.run(hidden)
        rows.append(logits)
    return np.stack(rows)


@pytest.fixture
def machine(make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder = make_bundle()
    host = HostCuda()
    other = HostTrt(host)
    monkeypatch.setattr(trt, "package", lambda builder: {"tensorrt": other}.get(builder))
    monkeypatch.setattr(cuda, "find", lambda: cuda.attach(host))
    return Machine(folder, with_engines(folder), host, other)
