"""What the server and its models are, whether they are ready, and what they have done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from exitkit.serve.models import Models, NotLoaded
from exitkit.serve.protocol import describe, statistics
from exitkit.serve.service import Service
from exitkit.serve.web import openapi_infer

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"])
MODEL, VERSIONED = "/models/{model}", "/models/{model}/versions/{version}"
Route = Callable[[Request, str], Awaitable[Response]]


def versioned(path: str, name: str, responses: openapi_infer.Responses) -> Callable[[Route], Route]:
    """Let a function answer GET for a path of a model, with a version and without."""

    def add(route: Route) -> Route:
        for place, more in ((MODEL, None), (VERSIONED, openapi_infer.VERSION)):
            router.get(place + path, name=name, responses=responses, openapi_extra=more)(route)
        return route

    return add


@router.get("", name="server", responses=openapi_infer.SERVER)
async def server() -> Response:
    """Name the server and the protocol's extensions that it speaks."""
    return _json(describe.server())


@router.head("/health/live", name="live", include_in_schema=False)
@router.get("/health/live", name="live", responses=openapi_infer.LIVE)
async def live() -> Response:
    """Tell that the process answers."""
    return _json({"live": True})


@router.head("/health/ready", name="ready", include_in_schema=False)
@router.get("/health/ready", name="ready", responses=openapi_infer.READY)
async def ready(request: Request) -> Response:
    """Tell whether new requests are welcome: 200, or 503 while the server loads or stops."""
    return _ready(request, {"live": True}, _models(request).ready)


# Before the routes of models: no model can be called stats.
@router.get("/models/stats", name="statistics", responses=openapi_infer.STATISTICS)
async def all_statistics(request: Request) -> Response:
    """Return the statistics of all models that are loaded, and of their stages."""
    models = _models(request)
    entries = await asyncio.to_thread(models.index)  # which looks into folders
    return await _statistics(models, [row.name for row in entries if row.state == "READY"])


@versioned("", "metadata", openapi_infer.METADATA)
async def metadata(request: Request, model: str) -> Response:
    """Describe the model's input, outputs, exits and their cost."""
    return _json(describe.metadata(_model(request, model)))


@versioned("/config", "config", openapi_infer.CONFIG)
async def config(request: Request, model: str) -> Response:
    """Describe the model as Triton's model configuration does."""
    return _json(describe.config(_model(request, model)))


@versioned("/stats", "statistics", openapi_infer.STATISTICS)
async def model_statistics(request: Request, model: str) -> Response:
    """Return how often the model and each of its stages ran, and how long they took."""
    models = _models(request)
    _model(request, model)
    return await _statistics(models, [model])


@router.head(MODEL + "/ready", name="model_ready", include_in_schema=False)
@router.head(VERSIONED + "/ready", name="model_ready", include_in_schema=False)
@versioned("/ready", "model_ready", openapi_infer.MODEL_READY)
async def model_ready(request: Request, model: str) -> Response:
    """Tell whether the model takes requests."""
    try:
        _model(request, model)
    except NotLoaded as error:
        return _json({"name": model, "ready": False, "error": str(error)}, error.status)
    return _ready(request, {"name": model}, not _models(request).draining)


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _model(request: Request, name: str) -> Service:
    # Of the path: as a parameter of the function it could stand in the query too, where there is
    # none in the path.
    return _models(request).get(name, request.path_params.get("version"))


async def _statistics(models: Models, names: list[str]) -> Response:
    tables = await asyncio.to_thread(models.metrics.models)
    rows = [row for name in names for row in statistics.of(name, tables[name])]
    return _json({"model_stats": rows})


def _ready(request: Request, table: dict[str, Any], ready: bool) -> Response:
    if ready:
        return _json({**table, "ready": True})
    why = "stopping" if _models(request).draining else "loading"
    return _json({**table, "ready": False, "error": f"the server is {why}"}, 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
