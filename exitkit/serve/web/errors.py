"""From errors to answers: one body for all of them, and the status codes."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from exitkit.errors import ExitkitError, RequestError
from exitkit.serve.web.disconnect import GONE
from exitkit.serve.web.watch import HEADER

logger = logging.getLogger(__name__)

Handler = Callable[[Request, Any], Awaitable[Response]]  # Any: the error that it is for


def handle(app: FastAPI) -> None:
    """Let an application answer what its routes raise."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)


def find(error: Exception) -> Handler | None:
    """Return what answers an error; None for one that nobody expects, which is to be raised."""
    kinds = [kind for kind in type(error).__mro__ if kind in HANDLERS and kind is not Exception]
    return HANDLERS[kinds[0]] if kinds else None


def answer(error: RequestError) -> Response:
    """Return the answer to a request that is refused."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    elif error.status == 408:
        headers["Connection"] = "close"  # the rest of the body would come
    elif error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="exitkit"'
    return _error(str(error), error.status, headers)


async def _refused(request: Request, error: RequestError) -> Response:
    return answer(error)


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
    return _error("the client went away", GONE)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and uvicorn logs its traceback.
    text = f"internal error in request {request.state.note.id}; see the server's log"
    return _error(text, 500, {HEADER: request.state.note.id})


def _error(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"error": text})
    return Response(body, status, headers, media_type="application/json")


HANDLERS: dict[type[Exception], Handler] = {
    RequestError: _refused,
    ExitkitError: _failed,
    RequestValidationError: _invalid,
    HTTPException: _status,
    ClientDisconnect: _gone,
    Exception: _unexpected,
}
