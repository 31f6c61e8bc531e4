"""Serve bundles over HTTP and gRPC: `run` for the command line, `server` for tests and the demo.

What lies where: `protocol` (what the Open Inference Protocol v2 is made of), `inference` (from a
request's tensors to its answer's), `codec` (image files to the network's input) and `scheduling`
(one engine thread before one queue per stage) know no HTTP; `service` holds them together with the
model; `web` and `rpc` map routes and methods to it and errors to codes; `process` has the sockets,
the signals and the end, `workers` several processes.
"""

import importlib
from typing import Any

# Imported when first used: help texts and limits need no web framework.
_PUBLIC = {"run": "exitkit.serve.process", "server": "exitkit.serve.process"}


def __getattr__(name: str) -> Any:  # Any: whatever the public name is
    if name not in _PUBLIC:
        raise AttributeError(f"module 'exitkit.serve' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
