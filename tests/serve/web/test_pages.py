"""What people and monitors read: page, documentation, metrics, statistics, trade-off."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from exitkit.serve.web import pages

FOLDER = Path(pages.__file__).parents[1] / "page"
FILES = sorted(path.name for path in FOLDER.iterdir())


class References(HTMLParser):
    """Collects what a page loads or links to, and whether it holds script or style itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        table = dict(attributes)
        self.found += [v for k, v in attributes if k in ("src", "href") and v]
        if tag == "style" or (tag == "script" and "src" not in table) or "style" in table:
            self.inline.append(tag)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_only_from_this_server(url: str, path: str) -> None:
    response = httpx.get(url + path)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    parser = References()
    parser.feed(response.text)
    assert not parser.inline  # the policy would forbid it
    assert "lang=" in response.text
    for reference in parser.found:
        assert reference.startswith("/")
        assert httpx.get(url + reference).status_code == 200, reference


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_the_page_names_another_server(name: str) -> None:
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", (FOLDER / name).read_text())
    assert [a for a in addresses if "www.w3.org/2000/svg" not in a] == []


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".html")])
def test_the_assets_have_their_types(url: str, name: str) -> None:
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.split(".")[1]]
    response = httpx.get(f"{url}/page/{name}")
    assert response.headers["content-type"].startswith(kind)
    assert response.content == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd"])
def test_no_path_reaches_the_file_system(url: str, path: str) -> None:
    response = httpx.get(url + path)
    assert response.status_code == 404
    assert list(response.json()) == ["error"]


def test_unknown_paths_and_wrong_verbs_have_the_same_error_body(url: str) -> None:
    missing = httpx.get(f"{url}/nothing")
    assert missing.status_code == 404
    assert missing.json() == {"error": "GET /nothing: Not Found; GET /docs lists the routes"}
    wrong = httpx.get(f"{url}/predict")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert wrong.json()["error"].startswith("GET /predict: Method Not Allowed")


def test_openapi_names_every_route_and_no_422(url: str) -> None:
    table = httpx.get(f"{url}/openapi.json").json()
    assert {
        "/predict", "/tradeoff", "/stats", "/metrics", "/v2", "/v2/health/live",
        "/v2/health/ready", "/v2/models/{model}", "/v2/models/{model}/versions/{version}",
        "/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer",
        "/v2/models/{model}/config", "/v2/models/{model}/versions/{version}/config",
        "/v2/models/{model}/stats", "/v2/models/{model}/versions/{version}/stats",
        "/v2/models/stats", "/v2/repository/index", "/v2/repository/models/{model}/load",
        "/v2/repository/models/{model}/unload",
    } == set(table["paths"])  # fmt: skip
    statuses = table["paths"]["/predict"]["post"]["responses"]
    assert {"200", "400", "413", "415", "429", "503"} <= set(statuses)
    for verbs in table["paths"].values():
        for about in verbs.values():
            assert "422" not in about["responses"]


@pytest.mark.parametrize("path", ["/", "/docs", "/page/app.js"])
def test_whoever_looks_whether_a_page_is_there_may_ask_with_head(url: str, path: str) -> None:
    got, headed = httpx.get(url + path), httpx.head(url + path)
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-length", "content-type", "content-security-policy"):
        assert headed.headers[name] == got.headers[name]
    assert set(httpx.post(url + path).headers["allow"].split(", ")) == {"GET", "HEAD"}


def test_versions_stand_in_paths_alone(url: str) -> None:
    table = httpx.get(f"{url}/openapi.json").json()
    for path, verbs in table["paths"].items():
        for about in verbs.values():
            found = {(one["name"], one["in"]) for one in about.get("parameters", ())}
            inside = {(name, "path") for name in re.findall(r"\{(\w+)\}", path)}
            assert {one for one in found if one[0] in ("model", "version")} - {
                ("model", "query")
            } == (inside), path
    for path in ("", "/config", "/stats", "/ready"):
        assert httpx.get(f"{url}/v2/models/colours{path}?version=2").status_code == 200
        assert httpx.get(f"{url}/v2/models/colours/versions/2{path}").status_code == 404


def counts(url: str) -> dict[str, float]:
    text = httpx.get(f"{url}/metrics").text
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def test_metrics_count_requests_exits_and_compute(url: str, paint: Callable[..., bytes]) -> None:
    before = counts(url)
    parts = [("file", ("x.png", paint(*c))) for c in ((255, 0, 0), (0, 255, 0), (120, 140, 130))]
    assert httpx.post(f"{url}/predict", files=parts).status_code == 200
    assert httpx.post(f"{url}/predict", files={"file": b"no"}).status_code == 400
    after = counts(url)

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('exitkit_requests_total{route="predict",status="200"}') == 1
    assert grown('exitkit_requests_total{route="predict",status="400"}') == 1
    assert grown('exitkit_exits_taken_total{exit="2",model="colours"}') == 2
    assert grown('exitkit_exits_taken_total{exit="4",model="colours"}') == 1
    assert grown('exitkit_spent_macs_total{model="colours"}') == 1000 + 1000 + 3000
    assert grown('exitkit_plain_macs_total{model="colours"}') == 3 * 5000
    assert grown('exitkit_batch_images_sum{exit="2",model="colours"}') == 3
    assert grown('exitkit_batch_images_sum{exit="4",model="colours"}') == 1  # what is left
    assert grown('exitkit_request_duration_seconds_count{route="predict"}') == 2
    spent = after['exitkit_spent_macs_total{model="colours"}']
    saved = 1 - spent / after['exitkit_plain_macs_total{model="colours"}']
    assert after['exitkit_compute_saved_ratio{model="colours"}'] == pytest.approx(saved)
    assert after['exitkit_queue_images{exit="2",model="colours"}'] == 0
    assert after['exitkit_threshold{exit="2",model="colours"}'] == 0.6
    assert 'exitkit_request_duration_seconds_bucket{le="0.0005",route="predict"}' in after


def test_metrics_have_the_type_that_prometheus_asks_for(url: str) -> None:
    kind = httpx.get(f"{url}/metrics").headers["content-type"]
    assert kind.startswith("text/plain; version=")


def test_stats_are_the_numbers_of_the_page(url: str, paint: Callable[..., bytes]) -> None:
    for colour in ((255, 0, 0), (120, 140, 130)):
        httpx.post(f"{url}/predict", files={"file": paint(*colour)})
    found = httpx.get(f"{url}/stats").json()
    assert (found["model"], found["arch"], found["method"]) == ("colours", "means", "deep")
    assert (found["ready"], found["models"], found["thresholds"]) == (True, ["colours"], [0.6])
    assert (found["queue"], found["stages"]) == (0, {"2": 0, "4": 0})
    assert list(found["exits"]) == ["2", "4"]
    assert sum(found["exits"].values()) == found["images"] >= 2
    times = found["latency_ms"]
    assert 0 < times["p50"] <= times["p95"] <= times["p99"]
    assert times["requests"] >= 2
    now, rows = found["now"], found["history"]
    assert now["images"] >= 2
    assert 0 < now["macs_fraction"] <= 3000 / 5000
    assert 1 / 3 < now["confidence"] <= 1
    assert now["p50_ms"] > 0
    assert [row["age_s"] for row in rows] == list(range(59, -1, -1))
    assert sum(row["requests"] for row in rows) == times["requests"]
    assert sum(row["exits"]["4"] for row in rows) >= 1
    assert found["images_per_s"] >= found["requests_per_s"] > 0


def test_tradeoff_is_the_whole_sweep_with_the_point_in_force(url: str) -> None:
    found = httpx.get(f"{url}/tradeoff").json()
    assert found["split"] == "tune"
    assert (found["exits"], found["macs"], found["plain_macs"]) == ([2, 4], [1000, 3000], 5000)
    assert [p["threshold"] for p in found["points"]] == [0.0, 0.5, 1.0]
    assert found["thresholds"] == [0.6]
    assert found["in_force"] == found["chosen"]
    assert found["exact"] is True
    assert found["measured"]["pool"] == "private"
    assert len(found["measured"]["exit_ms"]) == 2
