"""A whole export in another precision: another network, with a policy of its own, proven anew."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from exitkit import bundle, scores
from exitkit.errors import BundleError, ConfigError, DataError, ExportError, ParityError
from exitkit.export import converted, package, verify
from exitkit.export.limits import LIMITS, Limits
from exitkit.export.package import ExportReport
from exitkit.export.precision import calibration
from exitkit.policy.policy import Policy
from exitkit.runs import Run
from exitkit.train import session


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory, write_digits: Callable[..., Path]) -> Run:
    """A network that knows its digits: one that was hardly trained answers by small differences."""
    return session.train(
        name="steady",
        root=tmp_path_factory.mktemp("runs"),
        method="deep",
        arch="resnet18",
        width=0.125,
        data=str(write_digits(tmp_path_factory.mktemp("data") / "digits", train=60)),
        tune_share=0.4,
        image_size=32,
        epochs=12,
        batch_size=24,
        precision="float32",
        device="cpu",
        threads=1,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module", params=["fp16", "int8"])
def report(request: pytest.FixtureRequest, trained_run: Run, root: Path) -> ExportReport:
    return package.export(
        trained_run,
        exits=(1, 2),
        precision=request.param,
        forms=("cascade",),
        triton=root / f"{request.param}-triton",
        name=request.param,
        root=root,
    )


def test_a_converted_bundle_is_whole_and_says_what_changed(
    report: ExportReport, trained_run: Run
) -> None:
    precision = report.folder.name
    manifest = bundle.read_manifest(report.folder)
    assert manifest.precision == precision
    told = json.loads((report.folder / "parity.json").read_text())
    assert told["passed"] is True
    assert told["forms"][0]["file"] == "cascade.onnx"
    change = told["change"]
    assert (change["precision"], change["passed"]) == (precision, True)
    tune = scores.load(trained_run.scores("tune"))
    assert change["images"] == len(tune.labels)
    right = tune.logits[0].argmax(axis=1) == tune.labels
    assert change["exits"][0]["before"] == pytest.approx(right.mean())
    assert verify.verify(report.folder).manifest == manifest
    # Nothing of the conversion is left behind.
    assert sorted(path.name for path in report.folder.iterdir()) == [
        "cascade.onnx",
        "manifest.json",
        "parity.json",
        "policy.json",
        "reference.npz",
        "segment_1.onnx",
        "segment_2.onnx",
        "sweep.json",
    ]


def test_weights_lie_in_their_own_type(report: ExportReport) -> None:
    graph = onnx.load(report.folder / "segment_2.onnx").graph
    large = {w.data_type for w in graph.initializer if len(w.dims) == 4}
    wanted = {"fp16": {onnx.TensorProto.FLOAT16}, "int8": {onnx.TensorProto.INT8}}
    assert large == wanted[report.folder.name]


def test_the_policy_of_the_trained_network_is_refused(
    report: ExportReport, trained_run: Run
) -> None:
    old = scores.load(trained_run.scores("tune")).network
    assert report.manifest.network != old
    policy = Policy.read(report.folder / bundle.POLICY)
    policy.require(report.manifest.network, (1, 2))
    with pytest.raises(BundleError):
        Policy(old, policy.exits, policy.thresholds, policy.temperatures).require(
            report.manifest.network, (1, 2)
        )


def test_a_repository_is_written_of_the_same_segments(report: ExportReport) -> None:
    assert report.repository is not None
    names = sorted(path.name for path in report.repository.iterdir() if path.is_dir())
    name = report.folder.name
    assert [n for n in names if n.startswith(name)] == [
        name, f"{name}_bls", f"{name}_stage1", f"{name}_stage2",
    ]  # fmt: skip
    staged = report.repository / f"{name}_stage1" / "1" / "model.onnx"
    graph = onnx.load(staged).graph
    assert {w.data_type for w in graph.initializer if len(w.dims) == 4} & {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT8,
    }


def test_bad_precisions_and_too_few_images_leave_nothing(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"no such precision.*float32, fp16, int8"):
        package.export(trained_run, precision="int4", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(calibration, "LEAST", 1000)
    with pytest.raises(DataError, match="calibration images, at least 1000 are needed"):
        package.export(trained_run, exits=(1,), precision="int8", root=tmp_path / "b")
    assert list((tmp_path / "b").iterdir()) == []


def test_where_no_engine_can_be_built_int8_is_the_processors(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    lines: list[str] = []
    with pytest.raises(ExportError, match="was written without engines"):
        package.export(
            trained_run,
            exits=(1,),
            precision="int8",
            trt=True,
            root=tmp_path,
            progress=lines.append,
        )
    graph = onnx.load(tmp_path / "latest" / "segment_1.onnx").graph
    zeros = {w.data_type for w in graph.initializer if w.name.endswith("zero_point") and not w.dims}
    assert onnx.TensorProto.UINT8 in zeros  # which TensorRT does not know
    assert not any("for TensorRT save nothing" in line for line in lines)


def test_a_loss_of_accuracy_is_refused(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The exit would have to gain a whole.
    strict = Limits("fp16", 4e-3, None, 0.0, 0.0, -1.0, 1.0, 0.02)
    monkeypatch.setitem(LIMITS, "fp16", strict)
    monkeypatch.setattr(converted, "LIMITS", LIMITS)
    with pytest.raises(ParityError, match="points of accuracy are lost"):
        package.export(trained_run, exits=(1,), precision="fp16", root=tmp_path)
    (kept,) = tmp_path.iterdir()
    assert kept.name == "steady.parity-failed.json"
    assert json.loads(kept.read_text())["compared"]["exits"][0]["exit"] == 1
