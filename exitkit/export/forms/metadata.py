"""What a form says of itself: the table that lies in the ONNX file beside the graph.

Every value is JSON: `schema` (of this table), `network` and `policy` (digests of the weights and of
the policy that was suggested), `exits`, `temperatures`, `thresholds` (suggested ones), `classes`
(in the order of the probabilities) and `image` (height, width, mean and std).

The thresholds are no part of the graph: whoever runs it gives them, these or others.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exitkit.bundle import Manifest
from exitkit.engine import ort
from exitkit.errors import BundleError, EngineError
from exitkit.policy.policy import Policy

SCHEMA = "1.0"


def describe(manifest: Manifest, policy: Policy) -> dict[str, str]:
    """Return what a form of this bundle says of itself."""
    table: dict[str, Any] = {  # Any: JSON values
        "schema": SCHEMA,
        "network": manifest.network,
        "policy": digest(policy),
        "exits": policy.exits,
        "temperatures": policy.temperatures,
        "thresholds": policy.thresholds,
        "classes": manifest.classes,
        "image": dataclasses.asdict(manifest.image),
    }
    return {name: json.dumps(entry) for name, entry in table.items()}


def digest(policy: Policy) -> str:
    """Return the SHA-256 of a policy's values, however its file is spaced."""
    return hashlib.sha256(json.dumps(policy.to_json(), sort_keys=True).encode()).hexdigest()


def read(path: Path) -> dict[str, str]:
    """Return what a form's file says of itself.

    Raises:
        BundleError: it is no ONNX file that ONNX Runtime can open.
    """
    try:
        return dict(ort.plain(path).get_modelmeta().custom_metadata_map)
    except EngineError as error:
        raise BundleError(str(path), f"cannot be read ({error.found})", error.do) from error


def require(metadata: Mapping[str, str], policy: Policy) -> None:
    """Refuse to run a form with a policy that was made for something else.

    Thresholds may differ, they are an input; network, exits and temperatures are in the graph.

    Raises:
        BundleError: one of them differs, or the file says nothing of them.
    """
    wanted = {
        "network": policy.network,
        "exits": list(policy.exits),
        "temperatures": list(policy.temperatures),
    }
    for name, value in wanted.items():
        try:
            found = json.loads(metadata.get(name, "null"))
        except ValueError:
            found = metadata[name]  # somebody else's word for it
        if found != value:
            raise BundleError(
                f"a form with the policy's {name} {value}",
                f"this one has {found}",
                "export the form again with this policy",
            )
