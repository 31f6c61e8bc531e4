"""POST /predict: image files in, one short answer each out."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from exitkit.errors import RequestError
from exitkit.serve import predictions
from exitkit.serve.models import Models
from exitkit.serve.predictions import Observe
from exitkit.serve.scheduling.scheduler import clock
from exitkit.serve.service import Service
from exitkit.serve.web import openapi_predict, uploads, wishes
from exitkit.serve.web.disconnect import unless_gone
from exitkit.serve.web.stream import Event, Events, failure, follow
from exitkit.serve.web.uploads import Upload
from exitkit.serve.web.wishes import Wishes

router = APIRouter()


@router.post("/predict", name="predict", tags=["answers"], openapi_extra=openapi_predict.PREDICT)
async def predict(request: Request) -> Response:
    """Classify image files.

    `curl -F file=@x.png localhost:8000/predict`, or the file itself as the body with its content
    type, or JSON with base64. One image gives one object; several give a list in their order, in
    which a file that is no image, or that no exit had answered at the deadline, has an `error` and
    a `status` in its own place. Times and the deadline count from the request's head.
    """
    arrived = clock()  # a route begins when the request's head is read
    models: Models = request.app.state.models
    upload = await uploads.read(request, models.limits)
    asked = wishes.read(request.query_params.multi_items(), upload.wishes)
    if asked.stream:
        return Events(_events(models, upload, asked, arrived))
    with models.use(asked.model) as service:
        answer = await unless_gone(request.receive, _answer(service, upload, asked, arrived))
    return Response(orjson.dumps(answer), media_type="application/json")


async def _events(
    models: Models, upload: Upload, asked: Wishes, arrived: float
) -> AsyncGenerator[Event]:
    with models.use(asked.model) as service:
        steps = follow(lambda observe: _answer(service, upload, asked, arrived, observe))
        async with aclosing(steps) as events:
            async for event in events:
                yield event


async def _answer(
    service: Service, upload: Upload, asked: Wishes, arrived: float, observe: Observe | None = None
) -> Any:
    """Return what the body says: one answer, or a list of answers and errors."""
    options = asked.options(service.manifest.exits)
    rows = await predictions.answer(service, upload.files, options, asked.top, arrived, observe)
    if upload.single:
        if isinstance(rows[0], RequestError):
            raise rows[0]
        return rows[0]
    table = [failure(row) if isinstance(row, RequestError) else row for row in rows]
    if upload.names is None:
        return table
    return [{"file": name, **row} for name, row in zip(upload.names, table, strict=True)]
