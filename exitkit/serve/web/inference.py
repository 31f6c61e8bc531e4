"""The routes of the Open Inference Protocol v2, with and without the model's version."""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

import exitkit
from exitkit.errors import RequestError
from exitkit.serve import protocol
from exitkit.serve.models import Models
from exitkit.serve.web import openapi

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
# Bodies up to this size are parsed on the event loop: handing them over would take longer.
INLINE_BYTES = 128 * 1024


@router.get("", name="server")
async def server() -> dict[str, Any]:
    """Name the server and the protocol's extensions that it speaks."""
    return {"name": "exitkit", "version": exitkit.__version__, "extensions": []}


@router.get("/health/live", name="live")
async def live() -> dict[str, bool]:
    """Tell that the process answers."""
    return {"live": True}


@router.get("/health/ready", name="ready", responses=openapi.NOT_READY)
async def ready(request: Request) -> Response:
    """Tell whether new requests are welcome: 200, or 503 while the server stops."""
    return _ready(request, {"live": True}, _models(request).ready)


@router.get("/models/{model}", name="metadata", responses=openapi.UNKNOWN)
@router.get("/models/{model}/versions/{version}", name="metadata", responses=openapi.UNKNOWN)
async def metadata(request: Request, model: str, version: str | None = None) -> Response:
    """Describe the model's input, outputs, exits and their cost."""
    service = _models(request).get(model, version)
    table = protocol.metadata(service.manifest, service.tradeoff.macs, service.policy.thresholds)
    return _json(table)


@router.get("/models/{model}/ready", name="model_ready", responses=openapi.UNKNOWN)
@router.get(
    "/models/{model}/versions/{version}/ready", name="model_ready", responses=openapi.UNKNOWN
)
async def model_ready(request: Request, model: str, version: str | None = None) -> Response:
    """Tell whether the model takes requests."""
    ready = _models(request).is_ready(model, version)
    return _ready(request, {"name": model}, ready)


@router.post("/models/{model}/infer", name="infer", openapi_extra=openapi.INFER)
@router.post("/models/{model}/versions/{version}/infer", name="infer", openapi_extra=openapi.INFER)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Classify normalised tensors, JSON in and JSON out.

    Request parameters: `threshold` (0 to 1) and `max_exit`. Response parameters: `mean_exit`,
    `macs_fraction` (of the network without exits), `queue_ms`, `compute_ms`.
    """
    _refuse_binary(request)
    body = await request.body()
    with _models(request).use(model, version) as service:
        arguments = (body, service.manifest, service.limits.samples)
        if len(body) > INLINE_BYTES:
            asked = await asyncio.to_thread(protocol.read, *arguments)
        else:
            asked = protocol.read(*arguments)
        result = await service.answer(asked.images, asked.options)
        answers = result.answers
        columns = {
            "probabilities": service.probabilities(result),
            "exit_index": answers.exit,
            "confidence": answers.probability,
            "label": [service.manifest.classes[int(k)] for k in answers.label],
        }
        parameters = {
            "mean_exit": float(answers.exit.mean()),
            "macs_fraction": service.macs_fraction(answers.exit),
            "queue_ms": result.queue_s * 1e3,
            "compute_ms": result.compute_s * 1e3,
        }
        written = protocol.write(asked, service.manifest, columns, parameters)
        return Response(written, media_type="application/json")


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _refuse_binary(request: Request) -> None:
    for name in ("inference-header-content-length", "content-encoding"):
        if request.headers.get(name, "identity") != "identity":
            raise RequestError(f"header {name}", "this server reads plain JSON", "leave it out")


def _ready(request: Request, table: dict[str, Any], ready: bool) -> Response:
    if ready:
        return _json({**table, "ready": True})
    why = "stopping" if _models(request).draining else "loading"
    return _json({**table, "ready": False, "error": f"the server is {why}"}, 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
