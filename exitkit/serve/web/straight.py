"""Routes that answer images, found and called without FastAPI.

FastAPI describes them, and would call them too, but its way to a function takes longer than all
that these do (docs/notes.md). They need nothing of it: they take the request and the parts of its
path. Whatever stands around the routes stays as it is.
"""

from collections.abc import Awaitable, Callable, Sequence

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import Match, Route
from starlette.types import Scope


def lead(app: FastAPI, routers: Sequence[APIRouter], names: Sequence[str]) -> None:
    """Let an application try routes of these names first, as plain ones.

    Args:
        app: that includes the routers.
        routers: where the routes are.
        names: of the routes; their functions take the request and the parts of its path.
    """
    chosen = [
        route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.name in names
    ]
    app.router.routes[:0] = [_Plain(route) for route in chosen]


class _Plain(Route):
    """A route of FastAPI's that Starlette calls; who counts or logs sees FastAPI's."""

    def __init__(self, route: APIRoute) -> None:
        answer: Callable[..., Awaitable[Response]] = route.endpoint

        async def straight(request: Request) -> Response:
            return await answer(request, **request.path_params)

        super().__init__(
            route.path, straight, methods=list(route.methods or ()), include_in_schema=False
        )
        self._route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self._route} if found else found
