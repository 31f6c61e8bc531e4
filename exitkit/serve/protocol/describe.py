"""What a model takes and gives, in the protocol's words and in Triton's."""

from typing import Any

import orjson

import exitkit
from exitkit.serve.models import VERSION
from exitkit.serve.protocol.outputs import OUTPUTS
from exitkit.serve.service import Service

Json = dict[str, Any]  # Any: whatever JSON can hold
PLATFORM = "onnx_onnxv1"
EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)


def server() -> Json:
    """Name the server and the protocol's extensions that it speaks."""
    return {"name": "exitkit", "version": exitkit.__version__, "extensions": list(EXTENSIONS)}


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


def config(service: Service) -> Json:
    """Describe a model as Triton's configuration does.

    The first axis of every tensor is the batch, of which Triton's shapes do not speak.
    """
    table = metadata(service)
    return {
        "name": table["name"],
        "platform": PLATFORM,
        "backend": "exitkit",
        "max_batch_size": service.limits.samples,
        "version_policy": {"latest": {"num_versions": 1}},
        "input": [{**_configured(row), "optional": False} for row in table["inputs"]],
        "output": [_configured(row) for row in table["outputs"]],
        "dynamic_batching": {"max_queue_delay_microseconds": 0},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }


def _configured(row: Json) -> Json:
    """Turn a tensor of the metadata into one of the configuration."""
    kind = "STRING" if row["datatype"] == "BYTES" else row["datatype"]
    table = {"name": row["name"], "data_type": f"TYPE_{kind}", "dims": row["shape"][1:]}
    if not table["dims"]:  # Triton knows no tensor without axes beside the batch
        return {**table, "dims": [1], "reshape": {"shape": []}}
    return table


def _tensor(name: str, datatype: str, shape: list[int]) -> Json:
    return {"name": name, "datatype": datatype, "shape": shape}
