"""The outermost layer: counts every response, gives each request an id, and writes its line."""

import asyncio
import time

from exitkit.serve import logs
from exitkit.serve.metrics import Metrics
from exitkit.serve.web.bodies import Application, Message, Receive, Send
from exitkit.serve.web.disconnect import GONE, LEFT

HEADER = "x-request-id"
NAME = HEADER.encode()


class Watch:
    """ASGI layer that counts by the name of the route and echoes the request's id."""

    def __init__(self, app: Application, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500
        given = ""
        for name, value in scope["headers"]:
            if name == NAME:
                given = value.decode("latin-1")
        with logs.Noting(given) as about:
            # For the answer to what nobody expected, which is made outside of all layers.
            scope.setdefault("state", {})["note"] = about

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    message["headers"] = [*message["headers"], (NAME, about.id.encode())]
                await send(message)

            try:
                await self.app(scope, receive, watched)
            except asyncio.CancelledError:
                # Who runs the application knew first that the client has left: Ray's proxies do.
                scope[LEFT] = True
                raise
            finally:
                route = getattr(scope.get("route"), "name", "none")
                status = GONE if LEFT in scope else status
                seconds = time.perf_counter() - began
                self.metrics.responded(route, status, seconds)
                logs.line(about, route, status, seconds)
