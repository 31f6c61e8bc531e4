"""Routes that are called without FastAPI answer as it would have them do."""

import inspect
from pathlib import Path

import httpx
from fastapi.routing import APIRoute
from starlette.routing import Route

from exitkit.serve import shelf
from exitkit.serve.settings import Settings
from exitkit.serve.web import app, inference, predict

INFER = "/v2/models/colours/infer"


def test_routes_that_answer_images_are_found_first(colours: Path) -> None:
    settings = Settings((colours,))
    routes = app.create(shelf.collect(settings), settings).router.routes
    first = [route.path for route in routes[:3] if isinstance(route, Route)]
    described = {
        route.path
        for router in (predict.router, inference.router)
        for route in router.routes
        if isinstance(route, APIRoute) and route.name in ("predict", "infer")
    }
    assert set(first) == described


def test_their_functions_take_nothing_that_only_fastapi_could_give() -> None:
    for router in (predict.router, inference.router):
        for route in router.routes:
            if isinstance(route, APIRoute) and route.name in ("predict", "infer"):
                taken = inspect.signature(route.endpoint).parameters
                given = {"request", *route.param_convertors}
                # A part that a path lacks is left out.
                assert given <= set(taken)
                rest = set(taken) - given
                assert all(taken[name].default is None for name in rest), route.path


def test_they_are_described_counted_and_refused_as_before(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert "post" in paths["/predict"]
        assert "post" in paths["/v2/models/{model}/infer"]
        for path in ("/predict", INFER):
            refused = client.get(path)
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
            assert "GET /docs lists the routes" in refused.json()["error"]
        assert client.post("/v2/models/nobody/versions/1/infer", json={}).status_code in (400, 404)
        text = client.get("/metrics").text
        assert 'route="infer"' in text
        assert 'route="predict"' in text
