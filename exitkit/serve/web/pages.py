"""What people look at: the page, the API's documentation, metrics, and the trade-off."""

import asyncio
from importlib.resources import files
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from starlette.responses import PlainTextResponse

from exitkit.serve import exposition
from exitkit.serve.models import Models

router = APIRouter()
READ = ["GET", "HEAD"]
MEDIA = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Everything comes from this server: nothing is fetched from elsewhere, no inline script runs.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _assets() -> dict[str, Response]:
    """Read the files of the page once: no path of a request reaches the file system."""
    found = {}
    for file in files("exitkit.serve").joinpath("page").iterdir():
        media = MEDIA.get(file.name.rpartition(".")[2])
        if media:
            found[file.name] = Response(file.read_bytes(), media_type=media, headers=HEADERS)
    return found


ASSETS = _assets()


@router.api_route("/", methods=READ, include_in_schema=False, name="page")
async def page() -> Response:
    """Show the page."""
    return ASSETS["index.html"]


@router.api_route("/docs", methods=READ, include_in_schema=False, name="docs")
async def docs() -> Response:
    """Show the API's documentation."""
    return ASSETS["docs.html"]


for _name, _asset in ASSETS.items():
    if not _name.endswith(".html"):
        router.add_api_route(
            f"/page/{_name}",
            lambda asset=_asset: asset,
            methods=READ,
            include_in_schema=False,
            name="asset",
        )


@router.get(
    "/metrics",
    name="metrics",
    tags=["numbers"],
    response_class=PlainTextResponse,
)
async def prometheus(request: Request) -> Response:
    """Return all counters in Prometheus' text format."""
    text = await asyncio.to_thread(_models(request).metrics.text)
    return Response(text, headers={"Content-Type": exposition.CONTENT_TYPE})


@router.get("/stats", name="stats", tags=["numbers"])
async def stats(request: Request, model: str | None = None) -> Response:
    """Return what the page shows live.

    Counts are since the start, latencies of the last minute, rates and `now` of the last ten
    seconds; `history` has a row for each second of the last minute, oldest first. `confidence` is
    the mean calibrated confidence of late answers: their expected accuracy, as far as the
    calibration holds for what comes in.
    """
    models = _models(request)
    service = models.get(model)
    manifest = service.manifest
    numbers = await asyncio.to_thread(models.metrics.stats, manifest.name, service.counts)
    return _json(
        {
            "model": manifest.name,
            "arch": manifest.arch,
            "method": manifest.method,
            "ready": models.ready,
            "models": models.loaded,
            **numbers,
        }
    )


@router.get("/tradeoff", name="tradeoff", tags=["numbers"])
async def tradeoff(request: Request, model: str | None = None) -> Response:
    """Return the whole sweep of thresholds, and the operating point in force.

    `points` and `in_force` were computed on the tune split; `measured` was measured on this
    machine when the server started. `thresholds` are those of the policy; load may have lowered
    those in force, which `/stats` has.
    """
    models = _models(request)
    service = models.get(model)
    live = await asyncio.to_thread(models.metrics.live, service.manifest.name, service.counts)
    found = service.tradeoff.to_json(live["thresholds"])
    measured = None if service.measured is None else vars(service.measured)
    return _json({**found, "measured": measured})


def _models(request: Request) -> Models:
    models: Models = request.app.state.models
    return models


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
