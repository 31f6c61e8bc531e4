"""Routes that are called without FastAPI answer as it would have them do."""

import inspect
from pathlib import Path

import httpx
from fastapi.routing import APIRoute

from exitkit.serve import shelf
from exitkit.serve.settings import Settings
from exitkit.serve.web import app, inference, predict
from exitkit.serve.web.straight import Straight

INFER = "/v2/models/colours/infer"


def test_only_routes_that_answer_images_are_called_so(colours: Path) -> None:
    settings = Settings((colours,))
    layers = app.create(shelf.collect(settings), settings).user_middleware
    (layer,) = (layer for layer in layers if layer.cls is Straight)
    found = Straight(None, *layer.args, **layer.kwargs)  # type: ignore[arg-type]
    assert {route.path for route in found.routes} == {
        "/predict",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
    }
    assert {method for route in found.routes for method in route.methods or ()} == {"POST"}


def test_their_functions_take_nothing_that_only_fastapi_could_give() -> None:
    for router in (predict.router, inference.router):
        for route in router.routes:
            if isinstance(route, APIRoute) and route.name in ("predict", "infer"):
                assert list(inspect.signature(route.endpoint).parameters) == ["request"], route.path


def test_they_are_described_counted_and_refused_as_before(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert "post" in paths["/predict"]
        assert "post" in paths["/v2/models/{model}/infer"]
        for path in ("/predict", INFER):
            refused = client.get(path)
            assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
            assert "GET /docs lists the routes" in refused.json()["error"]
        assert client.post("/predict", content=b"x").status_code == 415
        assert client.post("/v2/models/nobody/versions/1/infer", json={}).status_code == 404
        text = client.get("/metrics").text
        assert 'route="infer"' in text
        assert 'route="predict"' in text
