"""Inference by the Open Inference Protocol v2: from the request's bytes to the answer's."""

import asyncio
from reprlib import repr as brief  # what clients sent may be long

from fastapi import APIRouter, Request, Response

from exitkit.errors import RequestError
from exitkit.serve import inference
from exitkit.serve.models import Models
from exitkit.serve.protocol.records import InferResponse
from exitkit.serve.scheduling.scheduler import clock
from exitkit.serve.web import compression, openapi_infer, raw, wire
from exitkit.serve.web.disconnect import unless_gone

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
HEADER = "Inference-Header-Content-Length"
DIGITS = 12  # of a length; more would be no body that any limit lets pass


@router.post("/models/{model}/infer", name="infer", openapi_extra=openapi_infer.INFER)
@router.post(
    "/models/{model}/versions/{version}/infer",
    name="infer",
    openapi_extra=openapi_infer.INFER_VERSION,
)
async def infer(request: Request) -> Response:
    """Classify images: tensors in JSON or binary, or image files as binary elements.

    Request parameters: `threshold` (0 to 1), `max_exit`, `deadline_ms`, `timeout` (microseconds).
    Response parameters: `mean_exit`, `macs_fraction` (of the network without exits), `queue_ms`,
    `compute_ms`, `deadline_hit`, `threshold_used`.
    """
    arrived = clock()
    header = _header(request)
    body = await compression.read(request, _models(request).limits)
    path = request.path_params
    with _models(request).use(path["model"], path.get("version")) as service:
        if header == 0:
            asked, form = raw.read(body, service.manifest.image, arrived)
        elif (len(body) if header is None else header) > inference.INLINE_BYTES:
            asked, form = await asyncio.to_thread(wire.read, body, header, arrived)
        else:
            asked, form = wire.read(body, header, arrived)
        response = await unless_gone(request.receive, inference.infer(service, asked))
    return await _written(response, form, request.headers.get("accept-encoding"))


async def _written(response: InferResponse, form: wire.Form, accepted: str | None) -> Response:
    body, length = wire.write(response, form)
    headers, kind = {}, "application/json"
    if length is not None:
        headers[HEADER], kind = str(length), "application/octet-stream"
    encoding = compression.choose(accepted) if len(body) > compression.WORTH_BYTES else None
    if encoding is not None:
        body = await asyncio.to_thread(compression.pack, body, encoding)
        headers["Content-Encoding"] = encoding
    return Response(body, headers=headers, media_type=kind)


def _header(request: Request) -> int | None:
    """Return how many bytes of the body are JSON; None: all."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > DIGITS:
        raise RequestError(
            f"header {HEADER}: {brief(text)}", "is no length", "give the bytes of the JSON header"
        )
    return int(text)


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models
