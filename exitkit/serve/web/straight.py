"""Routes that answer images, found and called without FastAPI.

FastAPI describes them, and would call them too, but its way to a function took two fifths of their
time on the event loop (docs/notes.md). They need nothing of it: they take the request alone.
Whatever stands around the routes stays as it is.
"""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute

from exitkit.serve.web import errors
from exitkit.serve.web.bodies import Application, Message, Receive, Send


class Straight:
    """ASGI layer that calls some routes itself and leaves all others to the application.

    Args:
        app: that includes the routers.
        routers: where the routes are.
        names: of the routes; their functions take the request.
    """

    def __init__(
        self, app: Application, routers: Sequence[APIRouter], names: Sequence[str]
    ) -> None:
        self.app = app
        self.routes = [
            route
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and route.name in names
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        # Behind a prefix, and to say that a method is not allowed, FastAPI's way is the way.
        if scope["type"] == "http" and scope["method"] == "POST" and not scope.get("root_path"):
            for route in self.routes:
                found = route.path_regex.match(scope["path"])
                if found is not None:
                    scope["route"], scope["path_params"] = route, found.groupdict()
                    await _answer(route, scope, receive, send)
                    return
        await self.app(scope, receive, send)


async def _answer(route: APIRoute, scope: Message, receive: Receive, send: Send) -> None:
    request, started = Request(scope, receive, send), False

    async def watched(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        response = await route.endpoint(request)
        await response(scope, receive, watched)
    except Exception as error:
        # What has begun cannot become another answer.
        handler = None if started else errors.find(error)
        if handler is None:
            raise
        refusal = await handler(request, error)
        await refusal(scope, receive, send)
