"""Lines of requests, for people and for programs."""

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from serving import serving

from exitkit.serve import logs, server

Paint = Callable[..., bytes]
Lines = Callable[[str], list[str]]


@pytest.fixture
def lines(colours: Path, paint: Paint, capfd: pytest.CaptureFixture[str]) -> Lines:
    """Return what serves with a kind of log, asks twice, and returns what was said to stderr."""

    def ask(log: str) -> list[str]:
        with serving(colours, log=log) as running:
            headers = {"X-Request-Id": "first"}
            files = [("file", ("x.png", paint(255, 0, 0)))] * 2
            answer = httpx.post(f"{running.url}/predict", files=files, headers=headers)
            assert answer.status_code == 200
            assert httpx.get(f"{running.url}/nothing").status_code == 404
            running.process.send_signal(signal.SIGTERM)
            running.end()
        return capfd.readouterr().err.splitlines()

    return ask


def test_json_lines_say_what_became_of_each_request(lines: Lines) -> None:
    first, second = map(json.loads, lines("json"))
    assert first["id"] == "first"
    assert (first["route"], first["status"], first["level"]) == ("predict", 200, "INFO")
    assert (first["model"], first["images"], first["exits"]) == ("colours", 2, {"2": 2})
    assert 0 < first["ms"] < 60_000
    assert first["time"].endswith("Z")
    assert (second["route"], second["status"]) == ("none", 404)
    assert len(second["id"]) == 16
    assert "exits" not in second


def test_text_lines_are_for_people(lines: Lines) -> None:
    first, second = lines("text")
    assert " INFO exitkit.requests: predict 200 " in first
    assert first.endswith(" ms, colours: 2 at exit 2, id first")
    assert " none 404 " in second


def test_a_quiet_server_writes_no_lines_of_requests(lines: Lines) -> None:
    assert lines("quiet") == []


def test_a_traceback_is_one_json_line() -> None:
    try:
        raise ValueError('say "no"\n\x1b[31m')
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "", 1, "it %s", ("broke",), sys.exc_info())
    line = logs.Json().format(record)
    assert "\n" not in line
    assert "\x1b" not in line
    table = json.loads(line)
    assert (table["level"], table["logger"], table["message"]) == ("ERROR", "a.b", "it broke")
    assert table["traceback"].endswith('ValueError: say "no"\n\x1b[31m')


@pytest.mark.parametrize("given", ["", "a\nb", "a\x1b[0m", "é", "x" * 129])
def test_what_could_break_a_line_is_no_id(given: str) -> None:
    with logs.Noting(given) as about:
        assert about.id != given
        assert not about.named
        assert logs.is_id(about.id)


def test_the_transports_id_goes_before_the_bodys() -> None:
    with logs.Noting("outer") as about:
        logs.identify("inner")
        assert about.id == "outer"
    with logs.Noting() as about:
        logs.identify("inner")
        logs.identify("another")
        assert about.id == "inner"
    logs.identify("nobody's")  # outside of a request there is nothing to say


def test_every_answer_carries_its_id(url: str, paint: Paint) -> None:
    headers = {"x-request-id": "a-1"}
    answers = [
        httpx.get(f"{url}/v2", headers=headers),
        httpx.get(f"{url}/nothing", headers=headers),
        httpx.post(f"{url}/predict", content=b"no", headers=headers),
    ]
    assert [answer.headers["x-request-id"] for answer in answers] == ["a-1"] * 3
    made = {httpx.get(f"{url}/v2").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


def test_the_protocols_id_is_the_requests(url: str) -> None:
    tensor = {"name": "images", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": [0.0] * 3072}
    body = {"id": "from-body", "inputs": [tensor]}
    answer = httpx.post(f"{url}/v2/models/colours/infer", json=body)
    assert answer.json()["id"] == answer.headers["x-request-id"] == "from-body"


def test_an_error_that_nobody_expected_names_its_request(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object) -> bytes:
        raise ValueError("broken")

    monkeypatch.setattr("exitkit.serve.metrics.Metrics.text", broken)
    with server(colours, threads=1) as url:
        answer = httpx.get(f"{url}/metrics", headers={"x-request-id": "b-2"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "b-2"
    assert "request b-2" in answer.json()["error"]


@pytest.mark.parametrize("log", ["quiet", "json"])
def test_the_command_writes_no_text_among_lines_of_json(colours: Path, log: str) -> None:
    command = [sys.executable, "-m", "exitkit", "serve", str(colours), "--port", "0"]
    with subprocess.Popen(
        [*command, "--no-grpc", "--log", log], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith(b"ready: "):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (b"serving bundle" in errors) is (log == "quiet")
    if log == "json":
        assert errors == b""
