"""The `config.pbtxt` of every model in a repository.

Triton puts a batch axis before all `dims` of a model with `max_batch_size`, of every input and
output. A plain number per row, [batch] in the ONNX file, is therefore written as dims [1] with an
empty reshape: clients see [batch, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

from exitkit.bundle import Manifest
from exitkit.export.triton.prototext import Message, Word, text
from exitkit.export.triton.tensors import Graph, TensorSpec
from exitkit.policy.policy import Policy

LABELS, NEVER = "labels.txt", "never_leave"
OPTIONAL = "thresholds"
# How long a request waits for others to join it; how long for its turn before it is refused,
# which a request may shorten (and could not, were there no limit); how many wait at most.
DELAY_US, PATIENCE_US, WAITING = 500, 10_000_000, 256
# The stages' batchers merge rows only of those business-logic instances that run at once.
INSTANCES = 4


@dataclass(frozen=True)
class Placement:
    """How the models run.

    Attributes:
        kind: of the instances of ONNX models: KIND_AUTO, KIND_CPU or KIND_GPU.
        max_batch_size: rows that one call of a model may have.
    """

    kind: str
    max_batch_size: int


def cascade(
    name: str, graph: Graph, manifest: Manifest, policy: Policy, placement: Placement
) -> str:
    """Return the configuration of the one file that exits by itself."""
    return text(
        {
            **_head(name, "onnxruntime", placement),
            "input": [_tensor(one) for one in graph.inputs],
            "output": [_answer(one) for one in graph.outputs],
            "instance_group": [{"count": 1, "kind": Word(placement.kind)}],
            "dynamic_batching": _queue(),
            "model_warmup": _warmup(graph.inputs, placement),
            "parameters": _parameters(_about(manifest, policy)),
        }
    )


def stage(name: str, graph: Graph, placement: Placement) -> str:
    """Return the configuration of one segment, which only the business logic calls.

    Its batcher merges what waits already and waits for nothing: a delay would be paid at every
    exit.
    """
    return text(
        {
            **_head(name, "onnxruntime", placement),
            "input": [_tensor(one) for one in graph.inputs],
            "output": [_tensor(one) for one in graph.outputs],
            "instance_group": [{"count": 1, "kind": Word(placement.kind)}],
            "dynamic_batching": {},
            "model_warmup": _warmup(graph.inputs, placement),
        }
    )


def logic(
    name: str,
    graph: Graph,
    stages: Sequence[str],
    manifest: Manifest,
    policy: Policy,
    placement: Placement,
) -> str:
    """Return the configuration of the business logic, whose tensors are the cascade's.

    There is no warm-up: Triton loads models in any order, so the stages may not be there yet.
    They warm up themselves.
    """
    inputs = [
        {**_tensor(one), "optional": True} if one.name == OPTIONAL else _tensor(one)
        for one in graph.inputs
    ]
    # Python answers [n, 1] itself where the ONNX file has [batch]: no reshape.
    outputs = [
        {field: value for field, value in _answer(one).items() if field != "reshape"}
        for one in graph.outputs
    ]
    return text(
        {
            **_head(name, "python", placement),
            "input": inputs,
            "output": outputs,
            "instance_group": [{"count": INSTANCES, "kind": Word("KIND_CPU")}],
            "dynamic_batching": _queue(),
            "parameters": _parameters(
                {
                    "stages": ",".join(stages),
                    "stage_max_batch_size": str(placement.max_batch_size),
                    **_about(manifest, policy),
                }
            ),
        }
    )


def _head(name: str, backend: str, placement: Placement) -> Message:
    return {
        "name": name,
        "backend": backend,
        "max_batch_size": placement.max_batch_size,
        "version_policy": {"latest": {"num_versions": 1}},
    }


def _tensor(one: TensorSpec) -> Message:
    message: Message = {
        "name": one.name,
        "data_type": Word(one.data_type),
        "dims": one.shape or (1,),
    }
    return message if one.shape else {**message, "reshape": {"shape": ()}}


def _answer(one: TensorSpec) -> Message:
    """Return an output that clients see; `probabilities` knows the names of the classes."""
    own = _tensor(one)
    return {**own, "label_filename": LABELS} if one.name == "probabilities" else own


def _queue() -> Message:
    return {
        "max_queue_delay_microseconds": DELAY_US,
        "default_queue_policy": {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": PATIENCE_US,
            "allow_timeout_override": True,
            "max_queue_size": WAITING,
        },
    }


def _warmup(inputs: Sequence[TensorSpec], placement: Placement) -> list[Message]:
    """Return a call with one row and one with as many as fit; in both, no row leaves early."""
    data: list[Message] = [
        {
            "key": one.name,
            "value": {
                "data_type": Word(one.data_type),
                "dims": one.shape or (1,),
                # Zeros as thresholds would let all rows leave at the first exit.
                **({"input_data_file": NEVER} if one.name == OPTIONAL else {"zero_data": True}),
            },
        }
        for one in inputs
    ]
    sizes = {"one": 1, "full": placement.max_batch_size}
    return [{"name": name, "batch_size": size, "inputs": data} for name, size in sizes.items()]


def _about(manifest: Manifest, policy: Policy) -> dict[str, str]:
    """Return what a client, and the business logic, have to know of the bundle."""
    image = manifest.image
    return {
        "exits": _list(policy.exits),
        "thresholds": _list(policy.thresholds),
        "temperatures": _list(policy.temperatures),
        "mean": _list(image.mean),
        "std": _list(image.std),
        "network": manifest.network,
    }


def _list(numbers: Sequence[float]) -> str:
    return ",".join(map(repr, numbers))


def _parameters(table: dict[str, str]) -> list[Message]:
    return [{"key": key, "value": {"string_value": value}} for key, value in table.items()]
