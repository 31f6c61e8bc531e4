"""Train, export and serve networks with exits."""

import importlib
from typing import Any

__version__ = "0.1.0"

# Public names, imported when first used: `import exitkit` stays fast and needs no torch.
_PUBLIC = {"load": "exitkit.engine.model", "wrap": "exitkit.models.wrap"}


def __getattr__(name: str) -> Any:  # Any: whatever the public name is
    if name == "train":
        # The package can be called; see its own words.
        return importlib.import_module("exitkit.train")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'exitkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
