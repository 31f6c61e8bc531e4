"""The web application: routes to the service, errors to status codes."""

import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import exitkit
from exitkit.errors import ExitkitError, Overloaded, RequestError
from exitkit.serve.metrics import Metrics
from exitkit.serve.models import Models
from exitkit.serve.web import inference, openapi, pages, predict
from exitkit.serve.web.bodies import Application, BodyLimit, Message, Receive, Send

logger = logging.getLogger(__name__)


def create(models: Models) -> FastAPI:
    """Make the application around the models of a server; its lifespan's end drains them."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        if not models.stop():
            logger.warning("not everything was answered in %g s", models.limits.drain_s)

    app = FastAPI(
        title="exitkit",
        summary="Each image stops at the earliest exit that is sure.",
        version=exitkit.__version__,
        docs_url=None,
        redoc_url=None,
        # One error body for all routes; named "default", it also stands in for FastAPI's 422.
        responses={"default": openapi.ANY_ERROR},
        lifespan=lifespan,
    )
    app.state.models = models
    for area in (predict, inference, pages):
        app.include_router(area.router)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]
    app.add_middleware(BodyLimit, limit=models.limits.body_bytes)
    app.add_middleware(Counted, metrics=models.metrics)
    return app


class Counted:
    """ASGI layer that counts every response and its time, by the name of its route."""

    def __init__(self, app: Application, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "name", "none")
            self.metrics.responded(route, status, time.perf_counter() - began)


async def _refused(request: Request, error: RequestError) -> Response:
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif error.status == 503:
        headers["Retry-After"] = "1"
    return _error(str(error), error.status, headers)


async def _failed(request: Request, error: ExitkitError) -> Response:
    logger.error("%s", error)
    return _error(str(error), 500)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    return _error("; ".join(f"{row['loc']}: {row['msg']}" for row in error.errors()), 400)


async def _status(request: Request, error: HTTPException) -> Response:
    what = f"{request.method} {request.url.path}: {error.detail}; GET /docs lists the routes"
    text = what if error.status_code in (404, 405) else str(error.detail)
    return _error(text, error.status_code, dict(error.headers or {}))


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return _error("the client went away", 400)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and uvicorn logs its traceback.
    return _error("internal error; see the server's log", 500)


def _error(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": text})
    return Response(body, status, headers, media_type="application/json")


HANDLERS = {
    RequestError: _refused,
    ExitkitError: _failed,
    RequestValidationError: _invalid,
    HTTPException: _status,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
