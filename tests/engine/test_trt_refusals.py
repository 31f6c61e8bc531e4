"""Engines that are not for this machine are refused before any of them is loaded."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exitkit import bundle
from exitkit.engine import backends, cuda, trt
from exitkit.errors import BundleError, ConfigError, EngineError
from exitkit.export import engines

from .host_gpu import HostCuda, Machine, with_engines


def test_a_bundle_without_engines_says_how_to_get_them(tiny: Path) -> None:
    with pytest.raises(BundleError, match=r"segment_1\.onnx has no TensorRT engine.*export --trt"):
        backends.load(tiny, bundle.read_manifest(tiny), provider="engines")


def test_half_of_the_engines_are_not_enough(machine: Machine) -> None:
    *others, last = machine.manifest.segments
    told = dataclasses.replace(
        machine.manifest, segments=(*others, dataclasses.replace(last, engine=None))
    )
    with pytest.raises(BundleError, match=r"segment_3\.onnx has no TensorRT engine"):
        backends.load(machine.folder, told, provider="engines")


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"onnx": "0" * 64}, BundleError, r"is stale: it was not built from this segment_1\.onnx"),
        ({"version": "11.3.0"}, BundleError, r"built by tensorrt 11\.3\.0, tensorrt 11\.4\.0"),
        ({"targets": ("sm80", "sm90")}, EngineError, r"for sm80, sm90 .*this GPU is sm89 \(Host"),
        ({"device": "NVIDIA L4"}, EngineError, r"sm89 \(NVIDIA L4\): this GPU is sm89 \(Host 4090"),
        ({"batches": (1, 8, 32)}, EngineError, r"segment_1\.engine with .*\(1, 8, 32\).* it has"),
        ({"file": "segment_2.engine"}, EngineError, r"it has .*\(-1, 4, 8, 8\)"),
        ({"file": "policy.json"}, EngineError, r"policy\.json: TensorRT refused it \(magic number"),
    ],
)
def test_an_engine_for_something_else_is_refused(
    machine: Machine, changes: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        machine.load(**changes)
    assert machine.cuda.held == {}


def test_another_version_of_the_builder_is_refused(machine: Machine) -> None:
    machine.trt.__version__ = "11.5.0"  # type: ignore[misc]
    with pytest.raises(EngineError, match=r"engines for tensorrt 11\.4\.0: tensorrt 11\.5\.0 is"):
        machine.load()


@pytest.mark.parametrize(("builder", "extra"), [("tensorrt", "trt"), ("tensorrt_rtx", "trt-rtx")])
def test_without_the_package_the_message_names_the_extra(
    make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, builder: str, extra: str
) -> None:
    folder = make_bundle()
    manifest = with_engines(folder)
    pieces = [
        dataclasses.replace(piece, engine=dataclasses.replace(piece.engine, builder=builder))
        for piece in manifest.segments
        if piece.engine is not None
    ]
    told = dataclasses.replace(manifest, segments=tuple(pieces))
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"for {builder} 11\.4\.0, .*exitkit\[{extra}\]"):
        backends.load(folder, told, provider="engines")


def test_without_cuda_bindings_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(ConfigError, match=r"cuda-bindings is not installed; .*exitkit\[trt\]"):
        cuda.find()


def test_a_machine_without_a_gpu_is_told_apart() -> None:
    with pytest.raises(EngineError, match=r"finds no GPU here \(no device\); .*--provider cpu"):
        cuda.attach(HostCuda(devices=0))


def test_real_engines_where_cuda_sees_no_gpu(make_bundle: Callable[..., Path]) -> None:
    folder = make_bundle()
    manifest = engines.write(folder, bundle.read_manifest(folder), ("sm89",), lambda line: None)
    bundle.write_manifest(folder, manifest)
    found = bundle.read_manifest(folder).segments[0].engine
    assert found is not None
    assert (found.builder, found.targets, found.device) == ("tensorrt_rtx", ("sm89",), "")
    assert found.version == trt.package("tensorrt_rtx").__version__
    said = subprocess.run(
        [sys.executable, "-m", "exitkit", "bench", str(folder), "--provider", "engines"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert (said.returncode, said.stdout) == (1, "")
    assert "CUDA finds no GPU here" in said.stderr
    assert "Traceback" not in said.stderr
