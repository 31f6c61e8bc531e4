"""The bundle whose place a new one of its name takes."""

import json
from pathlib import Path
from typing import Any

from exitkit.bundle import MANIFEST


def told(final: Path, *, engines: bool) -> str:
    """Say in one line that a bundle will be replaced, and what the new one will not have.

    Args:
        final: where the bundle lies.
        engines: whether the new one will have TensorRT engines.
    """
    line = f"{final} is there and will be replaced"
    had = any(row.get("engine") for row in _manifest(final).get("segments", ()))
    return f"{line}, and its TensorRT engines with it" if had and not engines else line


def _manifest(final: Path) -> dict[str, Any]:  # Any: JSON values
    """Return a manifest of any schema; nothing of what is no manifest."""
    try:
        table = json.loads((final / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
