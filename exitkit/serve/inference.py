"""One inference request of the Open Inference Protocol, from its tensors to its answer's.

No transport inside: HTTP and gRPC read their bytes to an `InferRequest`, and write what comes out.
"""

import asyncio
import dataclasses
from collections.abc import Mapping
from reprlib import repr as brief  # what clients sent may be long
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitkit import images
from exitkit.errors import RequestError, TooLarge
from exitkit.images import ImageSpec
from exitkit.serve import logs, options
from exitkit.serve.models import VERSION
from exitkit.serve.options import Options
from exitkit.serve.protocol import outputs
from exitkit.serve.protocol.records import InferRequest, InferResponse, Tensor
from exitkit.serve.scheduling.requests import Observer
from exitkit.serve.scheduling.scheduler import clock
from exitkit.serve.service import Service

IMAGES, THRESHOLD = "images", "threshold"
# Normalised pixels are small; numbers far from that would overflow inside the network.
LARGEST = 1000.0
# Up to as many bytes are looked at on the event loop: handing them over would take longer.
INLINE_BYTES = 128 * 1024
# Names of Triton's parameters that mean nothing here, and why.
REFUSED = {
    "priority": "requests go by their arrival and their deadline; send deadline_ms",
    "sequence_id": "there are no sequences; leave it out",
    "sequence_start": "there are no sequences; leave it out",
    "sequence_end": "there are no sequences; leave it out",
}

# Triton's clients ask with it for an empty response after the last. There is one response, which
# is the last, so nothing is to be added.
ENDING = "triton_enable_empty_final_response"


async def infer(
    service: Service, request: InferRequest, observe: Observer | None = None
) -> InferResponse:
    """Answer one request; cancelling this takes its images out of the queues.

    Args:
        service: the model that answers.
        request: to be answered.
        observe: told on the event loop what every exit says, before this returns.

    Raises:
        RequestError: what this model does not know, too much at once, no time, no room.
        EngineError: the engine failed.
    """
    arrived = clock() if request.arrived is None else request.arrived
    logs.identify(request.id or "")
    wanted = outputs.check(request.outputs, service.manifest)
    tensors = _by_name(request.inputs)
    wishes = _options(request.parameters, service.manifest.exits)
    if THRESHOLD in tensors:
        wishes = _per_image(tensors[THRESHOLD], wishes)
    inputs = await _images(service, tensors[IMAGES], wishes, arrived)
    result = await service.answer(inputs, wishes, observe, arrived)
    began = clock()
    response = InferResponse(
        service.manifest.name,
        VERSION,
        outputs.make(wanted, service, result),
        request.id,
        outputs.parameters(service, result),
    )
    service.counts.worked("compute_output", clock() - began)
    return response


def _by_name(tensors: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the tensors of a request: its images, and perhaps their thresholds."""
    found: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name not in (IMAGES, THRESHOLD):
            raise RequestError(
                f"input {brief(tensor.name)}", "no such input", f"send {IMAGES} or {THRESHOLD}"
            )
        if tensor.name in found:
            raise RequestError(f"input {tensor.name}", "stands there twice", "send it once")
        if tensor.parameters:
            extra = brief(list(tensor.parameters))
            raise RequestError(f"input parameters {extra}", "not offered here", "leave them out")
        found[tensor.name] = tensor
    if IMAGES not in found:
        raise RequestError("inputs", f"hold no {IMAGES}", f"send the tensor {IMAGES}")
    return found


def _options(parameters: Mapping[str, Any], exits: tuple[int, ...]) -> Options:
    """Read parameters; Triton's `timeout` in microseconds is a deadline, 0 is none."""
    values = dict(parameters)
    for name in values:
        if name in REFUSED:
            raise RequestError(f"parameter {name}", "not offered here", REFUSED[name])
    values.pop(ENDING, None)
    timeout = values.pop("timeout", 0)
    if type(timeout) is not int or timeout < 0:
        raise RequestError(
            f"timeout {brief(timeout)}", "is no number of microseconds", "give a whole number"
        )
    if timeout and values.get("deadline_ms") is not None:
        raise RequestError("timeout and deadline_ms", "both are there", "give one of them")
    return options.parse({**values, "deadline_ms": timeout / 1e3} if timeout else values, exits)


def _per_image(tensor: Tensor, wishes: Options) -> Options:
    """Take thresholds [n] or [n, 1] from a tensor."""
    if wishes.threshold is not None:
        raise RequestError(
            "threshold", "is a parameter and a tensor", "give one for all, or one an image"
        )
    if tensor.datatype != "FP32" or tensor.shape[1:] not in ((), (1,)) or not tensor.shape:
        raise RequestError(
            f"threshold {tensor.datatype} {brief(list(tensor.shape))}",
            "it is FP32 [n, 1] or [n]",
            "give one number for each image",
        )
    assert isinstance(tensor.data, np.ndarray)
    return dataclasses.replace(wishes, threshold=tensor.data.reshape(-1))


async def _images(
    service: Service, tensor: Tensor, wishes: Options, arrived: float
) -> NDArray[np.float32]:
    """Return the network's input [n, 3, H, W], whatever form the images came in."""
    spec = service.manifest.image
    if tensor.datatype == "BYTES":
        _check_shape(tensor, (), service.limits.samples)
        assert isinstance(tensor.data, list)
        wishes.require(len(tensor.data))
        return await _decoded(service, tensor.data, wishes.due(arrived))
    if tensor.datatype not in ("FP32", "UINT8"):
        raise RequestError(
            f"datatype {tensor.datatype}",
            f"{IMAGES} is FP32 or UINT8, or BYTES with image files",
            "send one of these",
        )
    _check_shape(tensor, (3, spec.height, spec.width), service.limits.samples)
    assert isinstance(tensor.data, np.ndarray)
    wishes.require(len(tensor.data))
    prepare = _normalised if tensor.datatype == "FP32" else _pixels
    began = clock()
    if tensor.data.nbytes > INLINE_BYTES:
        inputs = await asyncio.to_thread(prepare, tensor.data, spec)
    else:
        inputs = prepare(tensor.data, spec)
    service.counts.worked("compute_input", clock() - began)
    return inputs


def _check_shape(tensor: Tensor, rest: tuple[int, ...], samples: int) -> None:
    shape = tensor.shape
    if shape[1:] != rest or not shape or shape[0] < 1:
        form = ", ".join(["n", *map(str, rest)])
        raise RequestError(
            f"shape {brief(list(shape))}",
            f"{IMAGES} is {tensor.datatype} [{form}]",
            "n is 1 or more",
        )
    if shape[0] > samples:
        raise TooLarge(f"{shape[0]} images", f"the limit is {samples} a request", "send fewer")


def _normalised(data: NDArray[np.float32], spec: ImageSpec) -> NDArray[np.float32]:
    """Refuse what is no normalised image [n, 3, H, W]; both comparisons are false for NaN."""
    flat = data.reshape(-1)
    if not (np.minimum.reduce(flat) >= -LARGEST and np.maximum.reduce(flat) <= LARGEST):
        raise RequestError(
            IMAGES,
            f"holds numbers beyond {LARGEST:g}",
            "normalise pixels by the metadata's mean and std, or send them as UINT8",
        )
    return data


def _pixels(data: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """Normalise pixels [n, 3, H, W] as those of files are."""
    return images.normalise(data.transpose(0, 2, 3, 1), spec)


async def _decoded(service: Service, files: list[bytes], due: float | None) -> NDArray[np.float32]:
    """Decode image files; one that is no image fails the request, which has no place for it."""
    decoded = await service.decode(files, due)
    for place, failure in enumerate(decoded.failures, 1):
        if failure is not None and len(files) > 1:
            asked = f"file {place} of {len(files)}, {failure.asked}"
            raise type(failure)(asked, failure.found, failure.do)
        if failure is not None:
            raise failure
    return decoded.inputs
