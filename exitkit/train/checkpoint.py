"""What a run writes to be resumed and read: the checkpoint and the selected network.

Both are written whole or not at all, and read without unpickling code.
"""

import hashlib
import json
import pickle
import random
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exitkit import config
from exitkit.atomic import replacing
from exitkit.config import TrainConfig
from exitkit.errors import CheckpointError
from exitkit.runs import Run

SCHEMA = 1
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)


def save(path: Path, state: dict[str, Any]) -> None:  # Any: tensors, numbers, lists, dicts
    """Write a checkpoint; a process killed at any moment leaves the old one or the new one."""
    _write(path, {"schema": SCHEMA, **state})


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the processor.

    Raises:
        CheckpointError: it is missing, damaged or of another schema.
    """
    state = _read(path, "train it again")
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        found = state.get("schema") if isinstance(state, dict) else "no table"
        raise CheckpointError(
            str(path), f"schema {found}, this exitkit reads {SCHEMA}", "train it again"
        )
    return state


def save_network(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a network's weights: on the processor, contiguous, floating point as float32.

    The same weights give the same bytes.
    """
    _write(path, plain(weights))


def load_network(path: Path) -> dict[str, Tensor]:
    """Read a network's weights.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    weights: dict[str, Tensor] = _read(path, "resume the run, or train it again")
    return weights


def plain(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy weights to the processor, contiguous, floating point as float32."""
    return {
        name: tensor.detach()
        .to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        .contiguous()
        for name, tensor in weights.items()
    }


def network_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes, in the order of the names.

    The memory format and the device do not change it.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def mismatch(path: Path, error: Exception) -> CheckpointError:
    """Make the error for a file whose contents belong to another network or method."""
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(str(path), f"does not fit ({first})", "train it again")


def written(settings: TrainConfig) -> str:
    """Return settings as the text of config.json; `read_config` takes it back."""
    return json.dumps(config.to_dict(settings), indent=2) + "\n"


def read_config(run: Run) -> TrainConfig:
    """Read the settings of a run.

    Raises:
        CheckpointError: config.json is missing or damaged.
    """
    try:
        table = json.loads(run.config.read_text(encoding="utf-8"))
        return config.parse(table, str(run.config))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(
            str(run.config), f"cannot be read ({error})", "train it again"
        ) from error


def sweep(run: Run) -> None:
    """Remove the half-written files that a killed process left in a run's folder."""
    for path in (run.checkpoint, run.network, run.config, run.scores("tune")):
        for left in run.folder.glob(f".{path.name}.*"):
            left.unlink(missing_ok=True)


def generators() -> dict[str, Any]:
    """Return the state of every random generator of the process."""
    version, words, gauss = random.getstate()
    legacy = dict(np.random.get_state(legacy=False))
    inner = dict(legacy["state"])
    inner["key"] = torch.from_numpy(inner["key"].astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "python": [version, list(words), gauss],
        "numpy": {**legacy, "state": inner},
    }


def restore_generators(state: dict[str, Any]) -> None:
    """Put every random generator back to where `generators` found it."""
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    inner = state["numpy"]["state"]
    key = inner["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**inner, "key": key}})


def seed_generators(seed: int) -> None:
    """Seed every random generator of the process."""
    torch.manual_seed(seed)  # the GPUs' too
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _write(path: Path, state: dict[str, Any]) -> None:
    # Given a path, torch would write the temporary file's name into the archive.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def _read(path: Path, do: str) -> Any:  # Any: what the file holds
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, zipfile.BadZipFile) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(str(path), f"cannot be read ({first})", do) from error
