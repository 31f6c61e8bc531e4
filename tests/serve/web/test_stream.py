"""POST /predict?stream=1: events that are read while the next stage still waits at its gate."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gates import Held, held

from exitkit.serve.limits import Limits

Paint = Callable[..., bytes]
CLEAR, DULL = (255, 0, 0), (120, 140, 130)
Event = tuple[str, Any]


@pytest.fixture(scope="module")
def gated(colours: Path) -> Iterator[Held]:
    with held(colours, Limits(batch=4, queue=256)) as made:
        yield made


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{k}.png", data)) for k, data in enumerate(files)]


def events(lines: Iterator[str]) -> Iterator[Event]:
    """Read server-sent events, one after the other."""
    name = ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)
            assert next(lines) == ""  # an empty line ends an event


def test_every_exit_is_told_before_the_next_has_run(gated: Held, paint: Paint) -> None:
    gated.gates[1].close()
    url = f"{gated.url}/predict?stream=1"
    with httpx.stream("POST", url, files=form(paint(*DULL)), timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-cache"
        assert "content-length" not in response.headers
        told = events(response.iter_lines())
        name, first = next(told)  # while the second stage stands before its gate
        gated.gates[1].open.set()
        rest = list(told)
    assert name == "exit"
    assert set(first) == {"image", "exit", "label", "confidence", "compute", "ms", "final"}
    assert (first["image"], first["exit"], first["final"]) == (0, 2, False)
    assert first["compute"] == 0.2
    assert [name for name, _ in rest] == ["exit", "answer"]
    second, answer = rest[0][1], rest[1][1]
    assert (second["exit"], second["final"], second["compute"]) == (4, True, 0.6)
    assert first["ms"] < second["ms"] <= answer["ms"]
    for key in ("label", "confidence", "exit", "compute"):
        assert second[key] == answer[key]
    plain = httpx.post(f"{gated.url}/predict", files=form(paint(*DULL))).json()
    times = {"ms", "queue_ms", "compute_ms"}
    assert {k: v for k, v in answer.items() if k not in times} == {
        k: v for k, v in plain.items() if k not in times
    }


def test_images_are_told_apart_and_broken_ones_stand_in_the_answer(
    gated: Held, paint: Paint
) -> None:
    files = form(paint(*CLEAR), b"broken", paint(*DULL), paint(0, 255, 0))
    url = f"{gated.url}/predict?stream=1&top=1"
    with httpx.stream("POST", url, files=files, timeout=30) as response:
        told = list(events(response.iter_lines()))
    assert [name for name, _ in told[:-1]] == ["exit"] * 4
    seen = [(row["image"], row["exit"], row["final"]) for _, row in told[:-1]]
    assert sorted(seen) == [(0, 2, True), (2, 2, False), (2, 4, True), (3, 2, True)]
    name, rows = told[-1]
    assert name == "answer"
    assert [row["file"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert [row.get("exit") for row in rows] == [2, None, 4, 2]
    assert rows[1]["status"] == 400
    assert rows[0]["top"][0]["label"] == "red"


def test_what_fails_before_the_first_event_has_its_own_status(gated: Held, paint: Paint) -> None:
    url = f"{gated.url}/predict?stream=1"
    broken = httpx.post(url, files=form(b"broken"))
    assert broken.status_code == 400
    assert set(broken.json()) == {"error"}
    assert httpx.post(f"{url}&threshold=2", files=form(paint(*CLEAR))).status_code == 400
    assert httpx.post(f"{url}&model=x", files=form(paint(*CLEAR))).status_code == 404


def test_what_fails_later_ends_the_stream_with_an_error(
    gated: Held, paint: Paint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(hidden: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gated.gates[1].segment, "run", broken)
    url = f"{gated.url}/predict?stream=1"
    with httpx.stream("POST", url, files=form(paint(*DULL))) as response:
        told = list(events(response.iter_lines()))
    assert [name for name, _ in told] == ["exit", "error"]
    says = "a batch: the engine failed (out of memory); see the server's log"
    assert told[1][1] == {"error": says, "status": 500}


def test_a_deadline_ends_a_stream_with_what_was_seen(colours: Path, paint: Paint) -> None:
    with held(colours, seconds=(1e-3, 100.0)) as server:
        url = f"{server.url}/predict?stream=1&deadline_ms=50000"
        with httpx.stream("POST", url, files=form(paint(*DULL))) as response:
            told = list(events(response.iter_lines()))
    assert [name for name, _ in told] == ["exit", "answer"]
    assert told[0][1]["final"] is False
    assert told[1][1]["deadline_hit"] is True


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_shows_events_as_they_come(gated: Held, paint: Paint, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(paint(*DULL))
    gated.gates[1].close()
    url = f"{gated.url}/predict?stream=1"
    command = ["curl", "-sSN", "-F", "file=@x.png", url]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        told = events(line.rstrip("\n") for line in curl.stdout)
        assert next(told)[1]["exit"] == 2
        gated.gates[1].open.set()
        assert [name for name, _ in told] == ["exit", "answer"]
        assert curl.wait(10) == 0
