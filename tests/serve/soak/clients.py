"""Clients of all kinds, well and badly behaved; each checks every answer that it gets."""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from known import THRESHOLDS, Known

Row = dict[str, Any]


class Wrong(AssertionError):
    """An answer that is not the engine's, or no answer where one was due."""


class Clients:
    """Asks one server about known images.

    Args:
        url: of the server.
        known: of each bundle that it serves.
        seed: of what is asked.
    """

    def __init__(self, url: str, known: list[Known], seed: int) -> None:
        self.url, self.known, self.random = url, known, random.Random(seed)
        self.counted: Counter[str] = Counter()
        self.http = httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits())
        self.kinds: list[Callable[[], Awaitable[None]]] = [
            self.file, self.file, self.form, self.base64, self.tensors, self.tensors, self.binary,
            self.binary, self.stream, self.deadline, self.broken, self.gone, self.gone, self.slow,
        ]  # fmt: skip

    async def ask(self) -> None:
        """Be one client of any kind."""
        kind = self.random.choice(self.kinds)
        try:
            await kind()
        except Exception as error:
            error.add_note(f"as {kind.__name__}, after {sum(self.counted.values())}")
            raise
        self.counted[kind.__name__] += 1

    def draw(self, most: int = 1) -> tuple[Known, list[int], float | None, int | None, Row]:
        """Choose a model, some of its images, a threshold and an exit; and say so in a query."""
        known = self.random.choice(self.known)
        chosen = [self.random.randrange(len(known.files)) for _ in range(most)]
        threshold = self.random.choice(THRESHOLDS)
        deepest = self.random.choice([None, None, *known.exits])
        wishes = {"threshold": threshold, "max_exit": deepest}
        return known, chosen, threshold, deepest, {k: v for k, v in wishes.items() if v is not None}

    async def file(self) -> None:
        """Send one file as the body."""
        known, (k,), threshold, deepest, wishes = self.draw()
        query = {"model": known.model, **wishes}
        row = await self.post("/predict", params=query, content=known.files[k], headers=IMAGE)
        self.same(known, [k], threshold, deepest, [row])

    async def form(self) -> None:
        """Send several files in a form, one of them broken."""
        known, chosen, threshold, deepest, wishes = self.draw(self.random.randint(2, 9))
        bad = self.random.randrange(len(chosen))
        files = [known.files[k] if place != bad else b"broken" for place, k in enumerate(chosen)]
        parts = [("file", (f"{place}", file)) for place, file in enumerate(files)]
        rows = await self.post("/predict", params={"model": known.model, **wishes}, files=parts)
        if rows[bad].get("status") != 400:
            raise Wrong(f"a broken file was answered: {rows[bad]}")
        kept = [place for place in range(len(chosen)) if place != bad]
        self.same(known, [chosen[p] for p in kept], threshold, deepest, [rows[p] for p in kept])

    async def base64(self) -> None:
        """Send base64 in JSON."""
        known, chosen, threshold, deepest, wishes = self.draw(self.random.randint(1, 5))
        texts = [base64.b64encode(known.files[k]).decode() for k in chosen]
        body = {"images": texts, **wishes}
        rows = await self.post("/predict", params={"model": known.model}, json=body)
        self.same(known, chosen, threshold, deepest, rows)

    async def tensors(self) -> None:
        """Send an inference request in JSON."""
        known, chosen, threshold, deepest, wishes = self.draw(self.random.randint(1, 4))
        head = _infer(known.inputs[chosen], wishes)
        head["inputs"][0]["data"] = known.inputs[chosen].ravel().tolist()
        answer = await self.post(f"/v2/models/{known.model}/infer", json=head)
        self.same(known, chosen, threshold, deepest, _rows(answer))

    async def binary(self) -> None:
        """Send an inference request with binary tensors, compressed now and then."""
        known, chosen, threshold, deepest, wishes = self.draw(self.random.randint(1, 12))
        data = known.inputs[chosen].tobytes()
        head = _infer(known.inputs[chosen], wishes)
        head["inputs"][0]["parameters"] = {"binary_data_size": len(data)}
        text = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        path = f"/v2/models/{known.model}/infer"
        answer = await self.post(path, content=text + data, headers=headers)
        self.same(known, chosen, threshold, deepest, _rows(answer))

    async def stream(self) -> None:
        """Read a stream of events; every final one has to be the answer."""
        known, (k,), threshold, deepest, wishes = self.draw()
        query = {"model": known.model, "stream": "1", **wishes}
        request = self.http.stream(
            "POST", "/predict", params=query, content=known.files[k], headers=IMAGE
        )
        async with request as response:
            if response.status_code != 200:
                self.refused(response.status_code, await response.aread())
                return
            text = (await response.aread()).decode()
        events = [
            (lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
            for lines in (block.split("\n") for block in text.strip().split("\n\n"))
        ]
        finals = [row for name, row in events if name == "exit" and row["final"]]
        if events[-1][0] != "answer" or len(finals) != 1:
            raise Wrong(f"a stream without its end: {text}")
        self.same(known, [k], threshold, deepest, [events[-1][1]])
        self.same(known, [k], threshold, deepest, finals)

    async def deadline(self) -> None:
        """Have little time: the answer is that of the deepest exit by then, or 504."""
        known, (k,), threshold, deepest, wishes = self.draw()
        wishes["deadline_ms"] = self.random.choice([0.5, 2, 5])
        response = await self.http.post(
            "/predict",
            params={"model": known.model, **wishes},
            content=known.files[k],
            headers=IMAGE,
        )
        if response.status_code == 504:
            self.counted["no answer in time"] += 1
        elif response.status_code != 200:
            self.refused(response.status_code, response.content)
        else:
            row = response.json()
            reached = row["exit"] if row["deadline_hit"] else deepest
            self.same(known, [k], threshold, reached, [row])

    async def broken(self) -> None:
        """Send what is no image."""
        response = await self.http.post("/predict", content=b"\x89PNG no", headers=IMAGE)
        if response.status_code not in (400, 429):
            raise Wrong(f"{response.status_code} for what is no image")

    async def gone(self) -> None:
        """Ask, and leave before the answer comes."""
        known, (k,), *_ = self.draw()
        _, writer = await self._send(known, k)
        await asyncio.sleep(self.random.choice([0, 0.001, 0.005]))
        writer.transport.abort()

    async def slow(self) -> None:
        """Send byte after byte, and wait for the answer all the same."""
        known, (k,), *_ = self.draw()
        reader, writer = await self._send(known, k, pieces=4)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        status, body = int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]
        if status != 200:
            self.refused(status, body)
        else:
            self.same(known, [k], None, None, [json.loads(body)])

    async def load(self) -> None:
        """Load a model anew."""
        known = self.random.choice(self.known)
        response = await self.http.post(f"/v2/repository/models/{known.model}/load")
        if response.status_code != 200:
            raise Wrong(f"a load was refused: {response.text}")
        self.counted["loads"] += 1

    async def post(self, path: str, **told: Any) -> Any:
        """Post and return the answer's JSON; come again as long as the server is busy."""
        for _ in range(200):
            response = await self.http.post(path, **told)
            if response.status_code == 200:
                return response.json()
            self.refused(response.status_code, response.content)
            await asyncio.sleep(0.05)
        raise Wrong("a client that came again 200 times was never answered")

    def refused(self, status: int, body: bytes) -> None:
        """Count a refusal; the only reason that there may be is a full queue."""
        if status != 429:
            raise Wrong(f"{status}: {body[:500]!r}")
        self.counted["429"] += 1

    def same(
        self, known: Known, chosen: list[int], threshold: float | None, deepest: int | None,
        rows: list[Row],
    ) -> None:  # fmt: skip
        """Hold an answer against the engine's."""
        expected = [known.answers[threshold, deepest][k] for k in chosen]
        if len(rows) != len(expected):
            raise Wrong(f"{len(rows)} answers for {len(expected)} images")
        for wanted, row in zip(expected, rows, strict=True):
            if not wanted.is_said(row):
                raise Wrong(f"{row} instead of {wanted} (threshold {threshold}, exit {deepest})")
        self.counted["images"] += len(rows)

    async def _send(
        self, known: Known, k: int, pieces: int = 1
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        file = known.files[k]
        head = (
            f"POST /predict?model={known.model} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
            f"Content-Type: image/png\r\nContent-Length: {len(file)}\r\n\r\n"
        )
        whole = head.encode() + file
        step = -(-len(whole) // pieces)
        for start in range(0, len(whole), step):
            writer.write(whole[start : start + step])
            await writer.drain()
            if pieces > 1:
                await asyncio.sleep(0.1)
        return reader, writer


IMAGE = {"Content-Type": "image/png"}


def _infer(inputs: "np.ndarray[Any, Any]", wishes: Row) -> Row:
    tensor: Row = {"name": "images", "shape": list(inputs.shape), "datatype": "FP32"}
    outputs = [{"name": name} for name in ("label", "exit_index", "confidence")]
    return {"inputs": [tensor], "outputs": outputs, "parameters": wishes}


def _rows(answer: Row) -> list[Row]:
    """Turn columns into rows as /predict has them."""
    columns = {output["name"]: output["data"] for output in answer["outputs"]}
    return [
        {"label": label, "exit": exit_, "confidence": confidence}
        for label, exit_, confidence in zip(
            columns["label"], columns["exit_index"], columns["confidence"], strict=True
        )
    ]
