"""What an answer holds: its outputs as tensors, and the parameters that say what it cost."""

from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit.bundle import Manifest
from exitkit.errors import RequestError
from exitkit.serve.protocol.records import Parameters, Tensor, Wanted
from exitkit.serve.scheduling.requests import Result
from exitkit.serve.service import Service

OUTPUTS = {
    "probabilities": "FP32",
    "exit_index": "INT64",
    "confidence": "FP32",
    "label": "BYTES",
    "compute": "FP32",
}
CLASSIFICATION = "classification"
ALL = tuple(Wanted(name) for name in OUTPUTS)


def check(wanted: tuple[Wanted, ...], manifest: Manifest) -> tuple[Wanted, ...]:
    """Return the outputs that a client asks for; none: all.

    Raises:
        RequestError: no such output, one twice, or parameters that it does not have.
    """
    names = set()
    for output in wanted:
        if output.name not in OUTPUTS:
            choices = ", ".join(OUTPUTS)
            raise RequestError(
                f"output {brief(output.name)}", "no such output", f"choose from: {choices}"
            )
        if output.name in names:
            raise RequestError("outputs", f"{output.name} stands there twice", "ask for it once")
        names.add(output.name)
        if output.parameters:
            _check_parameters(output, len(manifest.classes))
    return wanted or ALL


def _check_parameters(output: Wanted, classes: int) -> None:
    for name, value in output.parameters.items():
        if name != CLASSIFICATION or output.name != "probabilities":
            raise RequestError(
                f"parameter {brief(name)} of output {output.name}",
                "not offered here",
                f"{CLASSIFICATION} of probabilities is",
            )
        if type(value) is not int or not 1 <= value <= classes:
            raise RequestError(
                f"{CLASSIFICATION} {brief(value)}",
                f"there are {classes} classes",
                f"give 1 to {classes}",
            )


def make(wanted: tuple[Wanted, ...], service: Service, result: Result) -> tuple[Tensor, ...]:
    """Return the tensors that `check` let pass, of a result in which every image has its answer."""
    return tuple(_tensor(output, service, result) for output in wanted)


def _tensor(output: Wanted, service: Service, result: Result) -> Tensor:
    answers, classes = result.answers, service.manifest.classes
    n = len(answers.exit)
    if CLASSIFICATION in output.parameters:
        most = int(output.parameters[CLASSIFICATION])
        best = _best(service.probabilities(result), most, classes)
        return Tensor(output.name, "BYTES", (n, most), best)
    if output.name == "label":
        return Tensor("label", "BYTES", (n,), [classes[int(k)].encode() for k in answers.label])
    columns: dict[str, NDArray[Any]] = {  # Any: floats and whole numbers
        "exit_index": answers.exit,
        "confidence": answers.probability,
    }
    if output.name == "probabilities":
        array = service.probabilities(result)
    elif output.name == "compute":
        shares = [service.shares[k] for k in answers.exit.tolist()]
        array = np.asarray(shares, dtype=np.float32)
    else:
        array = columns[output.name]
    return Tensor(output.name, OUTPUTS[output.name], array.shape, array)


def _best(table: NDArray[np.float32], most: int, classes: tuple[str, ...]) -> list[bytes]:
    """Name the `most` likeliest classes of each row as value:index:label, likeliest first."""
    order = np.argsort(-table, axis=1, kind="stable")[:, :most]
    return [
        f"{row[k]:f}:{k}:{classes[k]}".encode()
        for row, best in zip(table, order.tolist(), strict=True)
        for k in best
    ]


def parameters(service: Service, result: Result) -> Parameters:
    """Return what an answer says of itself as a whole.

    `mean_exit`, `macs_fraction` (of the network without exits), `queue_ms`, `compute_ms`,
    `deadline_hit` (some image was ended by the deadline), and `threshold_used` where one threshold
    held for all images at all exits.
    """
    exits = result.answers.exit.tolist()
    found: dict[str, float | bool] = {
        "mean_exit": sum(exits) / len(exits),
        "macs_fraction": sum(service.shares[k] for k in exits) / len(exits),
        "queue_ms": round(result.queue_s * 1e3, 3),
        "compute_ms": round(result.compute_s * 1e3, 3),
        "deadline_hit": bool(result.late),
    }
    used = {float(threshold) for threshold in result.thresholds}
    if len(used) == 1:
        found["threshold_used"] = used.pop()
    return found
