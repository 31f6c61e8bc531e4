"""From errors to what a gRPC call ends with: a code, a text, and what follows them."""

import logging
from dataclasses import dataclass

import grpc

from exitkit.errors import ExitkitError, RequestError
from exitkit.serve import logs

logger = logging.getLogger(__name__)

# By the status that HTTP has for it.
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True)
class Refusal:
    """What a call gets that is not answered.

    Attributes:
        status: of HTTP, a key of CODES.
        text: for people.
        metadata: that follows it.
    """

    status: int
    text: str
    metadata: tuple[tuple[str, str], ...] = ()


def refuse(error: Exception, about: logs.Note) -> Refusal:
    """Return what a client is told of an error; what was not foreseen goes to the log alone."""
    if isinstance(error, RequestError):
        wait = error.retry_after
        metadata = () if wait is None else (("retry-after", str(wait)),)
        return Refusal(error.status, str(error), metadata)
    if isinstance(error, ExitkitError):
        logger.error("%s", error)
        return Refusal(500, str(error))
    logger.error("request %s failed", about.id, exc_info=error)
    return Refusal(500, f"internal error in request {about.id}; see the server's log")
