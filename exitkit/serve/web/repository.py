"""Which models there are, and loading and unloading them, in Triton's words."""

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from exitkit.errors import RequestError
from exitkit.serve import changes
from exitkit.serve.models import VERSION, Models
from exitkit.serve.web import objects, openapi_infer

router = APIRouter(prefix="/v2/repository", tags=["Model repository"])


@router.post("/index", name="index", openapi_extra=openapi_infer.INDEX)
async def index(request: Request) -> Response:
    """List every model that is served or could be loaded; with `ready`, those that answer."""
    wishes = await _wishes(request, {"ready": bool})
    only_ready = wishes.get("ready", False)
    entries = await asyncio.to_thread(_models(request).index)
    rows = [
        {"name": one.name, "version": VERSION, "state": one.state, "reason": one.reason}
        for one in entries
        if one.state == "READY" or not only_ready
    ]
    return _json(rows)


@router.post("/models/{model}/load", name="load", openapi_extra=openapi_infer.LOAD)
async def load(request: Request, model: str) -> Response:
    """Load a model, or load it anew; answers once it is warm and takes requests.

    A bundle that cannot be served is refused, and what served before goes on.
    """
    await _wishes(request, {"parameters": dict}, parameters=())
    await changes.make(_models(request).load, model)
    return _json({})


@router.post("/models/{model}/unload", name="unload", openapi_extra=openapi_infer.UNLOAD)
async def unload(request: Request, model: str) -> Response:
    """Unload a model; answers once all its requests are answered."""
    # No model depends on another one: with and without its dependents is the same.
    await _wishes(request, {"parameters": dict}, parameters=("unload_dependents",))
    await changes.make(_models(request).unload, model)
    return _json({})


async def _wishes(
    request: Request, kinds: dict[str, type], parameters: tuple[str, ...] = ()
) -> dict[str, Any]:  # Any: of these kinds
    """Read a body that may be left out: fields of these kinds, parameters of these names."""
    body = await request.body()
    table = objects.read(body, "{} or nothing") if body else {}
    for name, value in table.items():
        if name not in kinds or not isinstance(value, kinds[name]):
            known = ", ".join(f"{key} ({kind.__name__})" for key, kind in kinds.items())
            raise RequestError(f"field {name[:40]!r}", "is not offered here", f"known are: {known}")
    for name in table.get("parameters", {}):
        if name not in parameters:
            raise RequestError(
                f"parameter {name[:40]!r}",
                "is not offered here: a model is loaded as its bundle says",
                f"leave it out; known are: {', '.join(parameters) or 'none'}",
            )
    return table


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
