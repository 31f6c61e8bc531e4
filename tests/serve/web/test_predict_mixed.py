"""Many requests at once, of many sizes and wishes: every answer is the offline engine's."""

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import exitkit
from exitkit import images
from exitkit.engine.engine import Answers
from exitkit.engine.model import Model

Paint = Callable[..., bytes]
REQUESTS, CLIENTS = 120, 8


def draw(random: np.random.Generator) -> bytes:
    """Encode noise on a tint, so that some images are sure early and some are not."""
    pixels = random.integers(0, 60, (32, 32, 3)) + random.integers(60, 190, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def offline(model: Model, files: list[bytes], thresholds: list[float], last: int) -> Answers:
    pixels = np.stack([images.decode(file, model.manifest.image) for file in files])
    rows = np.asarray(thresholds, np.float32)[:, None]
    return model.engine.answer(images.normalise(pixels, model.manifest.image), rows, last)


def test_answers_do_not_depend_on_who_shares_the_batch(url: str, colours: Path) -> None:
    random = np.random.default_rng(11)
    requests = [
        (
            [draw(random) for _ in range(random.integers(1, 9))],
            random.uniform(0.3, 1.0, 8).round(3).tolist(),
            int(random.choice([2, 4])),
        )
        for _ in range(REQUESTS)
    ]

    def ask(request: tuple[list[bytes], list[float], int]) -> Any:
        files, thresholds, last = request
        body = {
            "images": [base64.b64encode(file).decode() for file in files],
            "threshold": thresholds[: len(files)],
            "max_exit": last,
        }
        return client.post(f"{url}/predict", json=body).json()

    with httpx.Client(timeout=60) as client, ThreadPoolExecutor(CLIENTS) as pool:
        found = list(pool.map(ask, requests))
    exits: set[int] = set()
    model = exitkit.load(colours, threads=1)
    for (files, thresholds, last), rows in zip(requests, found, strict=True):
        want = offline(model, files, thresholds[: len(files)], last)
        assert [row["exit"] for row in rows] == want.exit.tolist()
        assert [row["label"] for row in rows] == [
            model.manifest.classes[label] for label in want.label
        ]
        confidences = [row["confidence"] for row in rows]
        assert confidences == pytest.approx(want.probability.tolist(), abs=1e-5)
        exits |= set(want.exit.tolist())
    assert exits == {2, 4}
