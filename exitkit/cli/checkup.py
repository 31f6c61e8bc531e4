"""What `exitkit doctor` tries: every part does a small piece of its real work."""

import base64
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import exitkit
from exitkit import machine
from exitkit.cli.output import Outcome
from exitkit.report import tables
from exitkit.report.tables import Column, Row

log = logging.getLogger(__name__)

# An ONNX file that doubles its input x [n]; 65 bytes, so that no package is needed to make it.
TINY = base64.b64decode(
    "CAg6NwoOCgF4CgF4EgF5IgNBZGQSAWdaEAoBeBILCgkIARIFCgMSAW5iEAoBeRILCgkIARIFCgMSAW5CBAoAEA0="
)
NO_GPU = "no NVIDIA GPU on this machine"
WORKS, MISSING, BROKEN = "works", "missing", "broken"
COLUMNS = (Column("part", "part"), Column("state", "state"), Column("found", "what was found"))


class Absent(Exception):
    """The part is not on this machine; nothing is broken."""


@dataclass(frozen=True)
class Part:
    """One thing to try.

    Attributes:
        name: as people know it.
        use: the commands that need it.
        attempt: does real work, says what was found; raises where it does not work.
        mend: the one command that installs or repairs it; "" where none can.
    """

    name: str
    use: str
    attempt: Callable[[], str]
    mend: str


@dataclass(frozen=True)
class Check:
    """What came of it: the state is "works", "missing" or "broken"."""

    part: str
    use: str
    state: str
    found: str
    mend: str


def run() -> list[Check]:
    """Try every part."""
    return [_try(part) for part in PARTS]


def outcome(checks: list[Check]) -> Outcome:
    """Return the checks for programs and for people."""
    rows: list[Row] = [asdict(check) for check in checks]
    here = machine.describe()
    words = [
        f"exitkit {exitkit.__version__}, Python {platform.python_version()}, {here['cpu']}, "
        f"{here['cores']} cores, {here['system']}",
        "",
        tables.text(rows, COLUMNS),
    ]
    mends = [check for check in checks if check.state != WORKS and check.mend]
    if mends:
        words += ["", "to mend or add:"]
        words += [f"  {check.part} ({check.use}):  {check.mend}" for check in mends]
    table = {"exitkit": exitkit.__version__, "machine": here, "checks": rows}
    return Outcome(table, "\n".join(words))


def _try(part: Part) -> Check:
    try:
        state, found = WORKS, part.attempt()
    except Absent as absent:
        state, found = MISSING, str(absent)
    except ModuleNotFoundError as error:
        state, found = MISSING, f"no module {error.name}"
    except Exception as error:  # whatever a broken library raises is what we are here to find
        log.info("%s is broken", part.name, exc_info=True)
        first = (str(error).strip().splitlines() or [""])[0]
        state, found = BROKEN, f"{type(error).__name__}: {first}"
    mend = "" if state == WORKS or found == NO_GPU else part.mend
    return Check(part.name, part.use, state, found, mend)


def _torch() -> str:
    import torch

    total = float(torch.ones(3) @ torch.ones(3))
    if total != 3.0:
        raise ArithmeticError(f"1*1 + 1*1 + 1*1 came out as {total}")
    return f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def _torchvision() -> str:
    import torch
    import torchvision
    from torchvision.transforms import v2

    if v2.functional.horizontal_flip(torch.tensor([[[1, 2]]])).tolist() != [[[2, 1]]]:
        raise ArithmeticError("a flipped image came out wrong")
    return f"torchvision {torchvision.__version__}"


def _timm() -> str:
    import timm

    return f"timm {timm.__version__}, {len(timm.list_models())} networks"


def _torch_pruning() -> str:
    import importlib.metadata

    import torch_pruning

    del torch_pruning
    return f"torch-pruning {importlib.metadata.version('torch-pruning')}"


def _digits() -> str:
    import sklearn
    from sklearn.datasets import load_digits

    return f"scikit-learn {sklearn.__version__}, {len(load_digits().target)} digits"


def _onnx() -> str:
    import onnx
    import onnxscript

    onnx.checker.check_model(onnx.load_from_string(TINY))
    return f"onnx {onnx.__version__}, onnxscript {onnxscript.__version__}"


def _ort() -> str:
    return _double("CPUExecutionProvider")


def _ort_cuda() -> str:
    import onnxruntime

    _need_gpu()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise Absent(f"onnxruntime {onnxruntime.__version__} is built without CUDA")
    return _double("CUDAExecutionProvider")


def _double(provider: str) -> str:
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(TINY, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} was refused, {session.get_providers()[0]} came instead")
    (answer,) = session.run(None, {"x": np.asarray([2.0], dtype=np.float32)})
    if answer.tolist() != [4.0]:
        raise ArithmeticError(f"2 + 2 came out as {answer.tolist()}")
    return f"onnxruntime {onnxruntime.__version__}, {provider} ran a model"


def _server() -> str:
    import fastapi
    import orjson
    import prometheus_client
    import python_multipart
    import uvicorn

    del orjson, prometheus_client, python_multipart
    return f"fastapi {fastapi.__version__}, uvicorn {uvicorn.__version__}"


def _figures() -> str:
    import io

    import matplotlib
    from matplotlib.figure import Figure

    Figure((1, 1)).savefig(io.BytesIO(), format="svg")
    return f"matplotlib {matplotlib.__version__} drew a figure"


def _cuda() -> str:
    import torch

    _need_gpu()
    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} cannot use the GPU")
    total = float(torch.ones(3, device="cuda").sum())
    if total != 3.0:
        raise ArithmeticError(f"1 + 1 + 1 came out as {total}")
    return f"{torch.cuda.get_device_name()}, torch summed on it"


def _tensorrt() -> str:
    _need_gpu()
    import tensorrt

    del tensorrt
    return _engine(None)


def _tensorrt_rtx() -> str:
    return _engine(("sm89",))


def _engine(targets: tuple[str, ...] | None) -> str:
    from exitkit.errors import ExportError
    from exitkit.export import tensorrt

    try:
        builder = tensorrt.find(targets)
    except ExportError as error:
        raise Absent(error.found) from error
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "tiny.onnx"
        model.write_bytes(TINY)
        built = tensorrt.build(builder, model, (), model.with_suffix(".engine"))
    return f"{built.builder} {built.version} built an engine for {', '.join(built.targets)}"


def _need_gpu() -> None:
    if not Path("/proc/driver/nvidia/version").exists() and shutil.which("nvidia-smi") is None:
        raise Absent(NO_GPU)


def _pip(extra: str) -> str:
    return f'pip install "exitkit[{extra}]"'


PARTS = (
    Part("PyTorch", "train, evaluate, export, report", _torch, _pip("train")),
    Part(
        "torchvision",
        "train on image folders, --arch torchvision:NAME",
        _torchvision,
        _pip("train"),
    ),
    Part("timm", "train --arch timm:NAME", _timm, _pip("timm")),
    Part("torch-pruning", "prune", _torch_pruning, _pip("prune")),
    Part("digits", "train without a download", _digits, _pip("train")),
    Part("CUDA", "train on a GPU", _cuda, "pip install --force-reinstall torch torchvision"),
    Part("ONNX", "export", _onnx, _pip("export")),
    Part("ONNX Runtime", "export, bench, serve, predict", _ort, _pip("serve")),
    Part(
        "ONNX Runtime, CUDA",
        "serve on a GPU",
        _ort_cuda,
        f"pip uninstall -y onnxruntime && {_pip('serve-gpu')}",
    ),
    Part("TensorRT", "export --trt for this GPU", _tensorrt, _pip("trt")),
    Part("TensorRT-RTX", "export --trt without a GPU", _tensorrt_rtx, _pip("trt-rtx")),
    Part("server", "serve", _server, _pip("serve")),
    Part("matplotlib", "report", _figures, _pip("report")),
)
