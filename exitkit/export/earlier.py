"""The bundle whose place a new one of its name takes."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError


def require_own(final: Path, networks: Collection[str]) -> None:
    """Refuse to replace a bundle of another run's network: it may be the only copy.

    Args:
        final: where the new bundle belongs.
        networks: digests of the weights that the exported run has and had.

    Raises:
        ConfigError: something else lies there.
    """
    if not final.exists() and not final.is_symlink():
        return
    asked, do = f"bundle {final}", "choose another --name, or remove it"
    table = _manifest(final)
    if not table or final.is_symlink():
        raise ConfigError(asked, "something else lies there", do)
    origin = table.get("origin")
    made = origin if isinstance(origin, dict) else {}
    if made.get("weights", table.get("network")) not in networks:
        run = made.get("run", table.get("name"))
        raise ConfigError(
            asked, f"it holds another network, of a run {run!r} that is not this one", do
        )


def told(final: Path, *, engines: bool) -> str:
    """Say in one line that a bundle will be replaced, and what the new one will not have.

    Args:
        final: where the bundle lies.
        engines: whether the new one will have TensorRT engines.
    """
    line = f"{final} is there and will be replaced"
    pieces = _manifest(final).get("segments")
    rows = pieces if isinstance(pieces, list) else []
    had = any(isinstance(row, dict) and row.get("engine") for row in rows)
    return f"{line}, and its TensorRT engines with it" if had and not engines else line


def _manifest(final: Path) -> dict[str, Any]:  # Any: JSON values
    """Return a manifest of any schema; nothing of what is no manifest."""
    try:
        table = json.loads((final / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
