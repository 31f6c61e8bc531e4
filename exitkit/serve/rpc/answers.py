"""One inference request that came over gRPC, alone or in a stream, to its answer."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

from exitkit.serve import inference
from exitkit.serve.models import Models
from exitkit.serve.protocol.records import InferRequest
from exitkit.serve.rpc import exits, tensors
from exitkit.serve.rpc.calls import Context
from exitkit.serve.scheduling.requests import DeadlineExceeded, Seen
from exitkit.serve.scheduling.scheduler import clock

# A call's own deadline is when its client gives up. The answer must be there before, so that as
# much of what is left until then becomes the request's deadline.
SHARE = 0.9
Tell = Callable[[Any], None]
DEADLINES = ("deadline_ms", "timeout")


async def infer(
    models: Models, message: Any, context: Context, tell: Tell | None = None
) -> Any:  # Any: messages are of classes made at run time
    """Answer a ModelInferRequest with a ModelInferResponse, its tensors in the same form.

    Args:
        models: of the server.
        message: the request.
        context: of its call.
        tell: given what every exit says of its images, each a ModelInferResponse too.

    Raises:
        RequestError, EngineError: as `inference.infer`.
    """
    arrived, raw = clock(), bool(message.raw_input_contents)
    if not raw and message.ByteSize() > inference.INLINE_BYTES:
        request = await asyncio.to_thread(tensors.read, message, arrived)
    else:
        request = tensors.read(message, arrived)
    request = _in_time(request, context.time_remaining())
    with models.use(message.model_name or None, message.model_version or None) as service:

        def observe(seen: Seen) -> None:
            if tell is not None:
                tell(tensors.write(exits.record(service, seen, request.id), raw))

        response = await inference.infer(service, request, None if tell is None else observe)
    return tensors.write(response, raw)


def _in_time(request: InferRequest, left_s: float | None) -> InferRequest:
    """Give a request the deadline of its call, unless it has one of its own."""
    if left_s is None or any(name in request.parameters for name in DEADLINES):
        return request
    if left_s <= 0:
        raise DeadlineExceeded()
    parameters = {**request.parameters, "deadline_ms": left_s * SHARE * 1e3}
    return dataclasses.replace(request, parameters=parameters)
