"""The web application: routes to the service, and what every request goes through."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from fastapi import FastAPI

import exitkit
from exitkit.serve.access import Access
from exitkit.serve.intake import Held
from exitkit.serve.models import Models
from exitkit.serve.settings import Settings
from exitkit.serve.web import (
    about,
    errors,
    inference,
    openapi,
    pages,
    predict,
    repository,
)
from exitkit.serve.web.bodies import BodyLimit
from exitkit.serve.web.security import Security
from exitkit.serve.web.straight import Straight
from exitkit.serve.web.watch import Watch

logger = logging.getLogger(__name__)

NOTHING: AbstractAsyncContextManager[object] = nullcontext()


def create(
    models: Models,
    settings: Settings,
    beside: AbstractAsyncContextManager[object] = NOTHING,
    held: Held | None = None,
) -> FastAPI:
    """Make the application around the models of a server; its lifespan's end drains them.

    Args:
        models: of the server.
        settings: of the server.
        beside: what else asks the models, in the same event loop; entered with the lifespan, and
            ended before they are.
        held: bytes of requests; None: nobody else counts them.
    """
    limits = models.limits

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with models.metrics.shared():
            async with beside:
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
    for area in (predict, about, inference, repository, pages):
        app.include_router(area.router)
    errors.handle(app)
    app.add_middleware(
        Straight, routers=(predict.router, inference.router), names=("predict", "infer")
    )
    app.add_middleware(Security, access=Access(settings))
    # Around that: whoever is refused may be sending a body, which somebody has to read for a while.
    app.add_middleware(BodyLimit, limits=limits, held=held or Held(limits.bodies_bytes))
    app.add_middleware(Watch, metrics=models.metrics)
    return app
