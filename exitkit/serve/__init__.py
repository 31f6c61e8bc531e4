"""Serve bundles over HTTP and gRPC: `run` for the command line, `server` for tests and the demo.

What lies where: `protocol` (the Open Inference Protocol's records), `inference` and `predictions`
(from a request to its answer), `codec` (image files to the network's input), `service` (one model)
and `scheduling` (one engine thread before one queue per stage) know no transport. `web` is HTTP,
`rpc` is gRPC; `process` has the ports, the signals and the end.
"""

import importlib
from typing import Any

# Imported when first used: help texts and limits need no web framework.
_PUBLIC = {"run": "exitkit.serve.process", "server": "exitkit.serve.process"}


def __getattr__(name: str) -> Any:  # Any: whatever the public name is
    if name not in _PUBLIC:
        raise AttributeError(f"module 'exitkit.serve' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
