"""Load a bundle's segments on ONNX Runtime; the two kinds of thread pools.

Every session with a pool of its own that spins while it waits fights the others for the cores, so
a private pool does not spin. The shared pool is ONNX Runtime's global one: a process has one at
most, of a size that cannot change, and its threads spin for a while after each run.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from exitkit import machine
from exitkit.bundle import Manifest, Segment
from exitkit.engine import providers
from exitkit.engine.bound import BoundSegment
from exitkit.engine.engine import Segment as Piece
from exitkit.engine.session import FAILURES, OrtSegment
from exitkit.errors import BundleError, ConfigError, EngineError, unknown

POOLS = ("private", "shared")
# Size of this process's global pool once exitkit has made it; ONNX Runtime cannot be asked.
_shared_threads: int | None = None
_shared_lock = threading.Lock()


def load(
    folder: Path,
    manifest: Manifest,
    pool: str = "private",
    threads: int | None = None,
    provider: str = "cpu",
) -> Sequence[Piece]:
    """Load a bundle's segments, shallow to deep.

    Args:
        folder: of the bundle.
        manifest: of the same bundle.
        pool: "private" (safe beside anything) or "shared" (one per process; see above).
        threads: of the pool; all cores that the process may use where None.
        provider: what computes: "cpu", "cuda" or "tensorrt". On the last two, features stay on
            the GPU between segments, and there is no shared pool.

    Raises:
        ConfigError: unknown pool or provider, a provider that this ONNX Runtime is built
            without, or a shared pool of another size is there already.
        BundleError: a file takes or answers other sizes than the manifest says.
        EngineError: a file cannot be loaded, has other inputs and outputs, or ONNX Runtime took
            another provider.
    """
    if pool not in POOLS:
        raise unknown("pool", pool, POOLS)
    computes = providers.find(provider)
    count = threads if threads is not None else machine.cores()
    if count < 1:
        raise ConfigError(f"{count} threads", "no pool is that small", "ask for 1 or more")
    if pool == "shared":
        _share(count)
    options = _options(pool, count)
    classes = len(manifest.classes)
    segments: list[Piece] = []
    for piece in manifest.segments:
        file = Path(folder) / piece.file
        session = _session(file, options, computes.options(piece.input_shape, file))
        computes.require(session, piece.file)
        _check_names(session, piece.file, deepest=piece is manifest.segments[-1])
        _check_sizes(session, piece, classes)
        if computes.device == "cpu":
            segments.append(
                OrtSegment(session, piece.exit, piece.input_shape, classes, pool, count)
            )
        else:
            segments.append(
                BoundSegment(
                    session,
                    piece.exit,
                    piece.input_shape,
                    classes,
                    provider,
                    count,
                    computes.device,
                    computes.largest,
                )
            )
    return segments


def plain(path: Path) -> onnxruntime.InferenceSession:
    """Open any ONNX file on one thread of the processor, as it is.

    Raises:
        EngineError: it cannot be loaded.
    """
    return _session(path, _options("private", 1), [providers.PROVIDERS["cpu"]])


def _options(pool: str, threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # With this fusion ONNX Runtime 1.31.1 dies on vision transformers in float16.
    options.add_session_config_entry(
        "optimization.disable_specified_optimizers", "MatmulTransposeFusion"
    )
    if pool == "shared":
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _share(threads: int) -> None:
    """Make the process's global pool, once."""
    global _shared_threads  # it is the process's, as ONNX Runtime's own is
    with _shared_lock:
        if _shared_threads is None:
            try:
                onnxruntime.set_global_thread_pool_sizes(threads, 1)
            except native.Fail as error:
                raise ConfigError(
                    f"a shared pool of {threads} threads",
                    "this process has one that exitkit did not make",
                    'take pool="private", or load the bundle in a process of its own',
                ) from error
            _shared_threads = threads
        elif _shared_threads != threads:
            raise ConfigError(
                f"a shared pool of {threads} threads",
                f"this process has one of {_shared_threads}, whose size is fixed",
                f'ask for {_shared_threads} threads, or take pool="private"',
            )


def _session(
    path: Path,
    options: onnxruntime.SessionOptions,
    computed: Sequence[Any],  # Any: see providers
) -> onnxruntime.InferenceSession:
    # Its fallback would tell stdout of it and compute on something else.
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=computed, enable_fallback=0
        )
    except FAILURES as error:
        raise EngineError(str(path), f"cannot be loaded ({error})", "export it again") from error


def _check_names(session: onnxruntime.InferenceSession, file: str, deepest: bool) -> None:
    found = [node.name for node in session.get_inputs()], [n.name for n in session.get_outputs()]
    wanted = ["hidden"], ["logits"] if deepest else ["logits", "hidden_out"]
    if found != wanted:
        raise EngineError(
            f"{file} with inputs {wanted[0]} and outputs {wanted[1]}",
            f"inputs {found[0]} and outputs {found[1]}",
            "export it again",
        )


def _check_sizes(session: onnxruntime.InferenceSession, piece: Segment, classes: int) -> None:
    """Refuse a manifest that gives a file other sizes than its own; unnamed axes pass."""
    takes, answers = session.get_inputs()[0].shape[1:], session.get_outputs()[0].shape[-1]
    told, found = [*piece.input_shape, classes], [*takes, answers]
    if len(found) != len(told) or any(
        isinstance(own, int) and own != size for own, size in zip(found, told, strict=True)
    ):
        raise BundleError(
            f"{piece.file} with {classes} classes, taking {list(piece.input_shape)}",
            f"it has {answers} classes and takes {takes}; the manifest was edited",
            "export it again",
        )
