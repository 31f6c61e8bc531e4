"""What a model takes and gives, in the protocol's words and in Triton's."""

from typing import Any

import orjson

from exitkit.serve.models import VERSION
from exitkit.serve.protocol.outputs import OUTPUTS
from exitkit.serve.service import Service

Json = dict[str, Any]  # Any: whatever JSON can hold
PLATFORM = "onnx_onnxv1"


def metadata(service: Service) -> Json:
    """Describe a model: tensors, and in `properties`, as JSON in strings, exits and their cost.

    Only what every request must have stands among the inputs: load generators send random bytes
    for each input that they find there. What else is taken is in the properties.
    """
    manifest, spec = service.manifest, service.manifest.image
    shapes = {"probabilities": [-1, len(manifest.classes)]}
    images = [-1, 3, spec.height, spec.width]
    properties = {
        "exits": list(manifest.exits),
        "macs": [int(m) for m in service.tradeoff.macs],
        "plain_macs": manifest.plain_macs,
        "thresholds": [round(float(t), 6) for t in service.policy.thresholds],
        "classes": manifest.classes,
        "mean": spec.mean,
        "std": spec.std,
        # Other forms of the same input, and one that may be left out.
        "also": [
            _tensor("images", "UINT8", images),
            _tensor("images", "BYTES", [-1]),
            _tensor("threshold", "FP32", [-1, 1]),
        ],
    }
    return {
        "name": manifest.name,
        "versions": [VERSION],
        "platform": PLATFORM,
        "inputs": [_tensor("images", "FP32", images)],
        "outputs": [_tensor(k, v, shapes.get(k, [-1])) for k, v in OUTPUTS.items()],
        # The protocol allows strings only.
        "properties": {k: orjson.dumps(v).decode() for k, v in properties.items()},
    }


def _tensor(name: str, datatype: str, shape: list[int]) -> Json:
    return {"name": name, "datatype": datatype, "shape": shape}
