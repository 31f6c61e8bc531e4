"""Server-sent events: what is known of an answer is sent as it comes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import Response
from starlette.requests import ClientDisconnect

from exitkit.errors import ExitkitError, RequestError
from exitkit.serve.web.bodies import Message, Receive, Send
from exitkit.serve.web.disconnect import LEFT, unless_gone

logger = logging.getLogger(__name__)

# A proxy that collects what it passes on would hold back what is there to be seen at once. With
# "no-store", Chromium calls a stream that was read to its end an aborted request.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
Event = tuple[str, Any]  # its name, and data: whatever JSON can hold


async def follow(
    work: Callable[[Callable[[Any], None]], Coroutine[Any, Any, Any]],
) -> AsyncGenerator[Event]:
    """Yield an event `exit` for all that work tells, then `answer` with what it returns.

    Args:
        work: given what it is to tell; cancelled where this is closed before its end.
    """
    told: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(work(told.put_nowait))
    task.add_done_callback(told.put_nowait)
    try:
        while (row := await told.get()) is not task:
            yield "exit", row
        yield "answer", task.result()
    finally:
        task.cancel()


class Events(Response):
    """A response of events, each sent when it is there.

    The status waits for the first of them: what fails before it is an ordinary error with a status
    of its own, what fails after it ends the stream with an event `error`.

    Args:
        events: closed when the response ends or the client goes away.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Event]) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self.events, self.started = events, False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Send everything, unless the client goes away before."""
        try:
            await unless_gone(receive, self._send(send))
        except ClientDisconnect:
            if not self.started:
                raise
            scope[LEFT] = True

    async def _send(self, send: Send) -> None:
        async with aclosing(self.events) as events:
            try:
                async for event in events:
                    await self._put(send, *event)
            except ExitkitError as error:
                if not self.started:
                    raise
                if not isinstance(error, RequestError):
                    logger.error("%s", error)
                await self._put(send, "error", failure(error))
        await send({"type": "http.response.body", "body": b""})

    async def _put(self, send: Send, name: str, data: Any) -> None:
        if not self.started:
            self.started = True
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
        body = b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data))
        await send({"type": "http.response.body", "body": body, "more_body": True})


def failure(error: ExitkitError) -> dict[str, str | int]:
    """Return what an answer says of what failed."""
    return {"error": str(error), "status": getattr(error, "status", 500)}
