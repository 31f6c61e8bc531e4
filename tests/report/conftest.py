"""Scores of real classifiers on real digits: four exits that see more and more of the image."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from exitkit import images
from exitkit.bundle import Manifest, Segment
from exitkit.images import ImageSpec
from exitkit.policy import temperature
from exitkit.policy.policy import Policy
from exitkit.report.collect import Evidence, Static
from exitkit.report.latency import Timing
from exitkit.runs import NetworkCard
from exitkit.scores import Scores

SEEN = (4, 8, 16, 40)  # principal components that each exit knows
MACS = (10e6, 20e6, 40e6, 90e6)
NETWORK = "a" * 64
CLASSES = tuple("0123456789")
SPEC = ImageSpec(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="session")
def tables() -> dict[str, Scores]:
    pixels, labels = load_digits(return_X_y=True)
    parts = {"train": slice(0, 900), "tune": slice(900, 1200), "test": slice(1200, 1797)}
    seen = PCA(40, random_state=0).fit(pixels[parts["train"]]).transform(pixels) / 16
    exits = [
        LogisticRegression(max_iter=300).fit(seen[parts["train"], :n], labels[parts["train"]])
        for n in SEEN
    ]
    return {
        name: Scores(
            split=name,
            network=NETWORK,
            exits=(1, 2, 3, 4),
            macs=np.asarray(MACS),
            logits=np.stack(
                [
                    model.decision_function(seen[rows, :n])
                    for model, n in zip(exits, SEEN, strict=True)
                ]
            ).astype(np.float32),
            labels=labels[rows].astype(np.int64),
            index=np.arange(len(labels[rows]), dtype=np.int64),
        )
        for name, rows in parts.items()
        if name != "train"
    }


@pytest.fixture(scope="session")
def evidence(tables: dict[str, Scores]) -> Evidence:
    """Exits 2 and 4 are kept; leaving at them costs 18 and 86 million."""
    tune = tables["tune"]
    temperatures = tuple(temperature.fit(tune.logits[k - 1], tune.labels) for k in (2, 4))
    segments = (
        Segment(2, "segment_2.onnx", (3, 32, 32), 18_000_000),
        Segment(4, "segment_4.onnx", (8, 16, 16), 68_000_000),
    )
    return Evidence(
        run="deep-resnet18-1",
        data="digits",
        card=NetworkCard(
            "resnet18", "light", 0.25, CLASSES, SPEC, (1, 2, 3, 4),
            tuple(map(int, MACS)), (1, 2, 3, 4), 80_000_000, "deep",
        ),
        manifest=Manifest(
            "deep-resnet18-1", NETWORK, "resnet18", "deep", CLASSES, SPEC, segments,
            80_000_000, {}, {},
        ),
        policy=Policy(NETWORK, (2, 4), (0.5,), temperatures),
        tune=tune,
        test=tables["test"],
        statics=tuple(
            Static(k, macs, Timing(macs / 1e7, macs / 1e7, macs / 1e7, 100, 5))
            for k, macs in ((1, 9e6), (2, 18e6), (3, 36e6), (4, 80e6))
        ),
        swept={},
        conditions={"cpu": "a processor", "seed": 0},
    )  # fmt: skip


@pytest.fixture(scope="session")
def digit_files() -> list[bytes]:
    """The images of the test table, as PNG files in its order."""
    grey = load_digits().images[1200:1797]
    return [
        images.encode_png(np.repeat((image[:, :, None] * 15.9).astype(np.uint8), 3, axis=2))
        for image in grey
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "report"
