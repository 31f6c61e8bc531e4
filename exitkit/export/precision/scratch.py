"""A folder for what ONNX Runtime's tools write on the way, and what to say where they cannot."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf.message import DecodeError
from onnx.shape_inference import InferenceError

from exitkit.engine.session import FAILURES
from exitkit.errors import ExportError

# On a full disk ONNX Runtime cannot serialise, and ONNX writes half a file that nothing can read.
_FAILED = (*FAILURES, DecodeError, InferenceError, OSError)


@contextmanager
def scratch(target: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder beside `target`, so that whoever removes its folder removes this too.

    Args:
        target: the file to be made with it.
        what: words for the error.

    Raises:
        ExportError: ONNX, ONNX Runtime or the system failed inside; names the folder and how much
            room it has, which is the usual reason.
    """
    folder = target.parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{target.name}.") as place:
        try:
            yield Path(place)
        except _FAILED as error:
            free = shutil.disk_usage(folder).free
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ExportError(
                what,
                f"it failed on files in {folder}, which has {free / 1e6:,.0f} MB free ({said})",
                "make room there if that is little; else report the network, and export it with "
                "--precision float32",
            ) from error
