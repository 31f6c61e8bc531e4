"""One small trained run for all tests of the area."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from exitkit.runs import Run


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """A run sets torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, write_digits: Callable[..., Path]) -> Run:
    """A narrow ResNet-18 after ten epochs on three digits, `mate`; read-only for its users."""
    from exitkit.train import session

    return session.train(
        name="small",
        root=tmp_path_factory.mktemp("runs"),
        method="mate",
        arch="resnet18",
        width=0.125,
        data=str(write_digits(tmp_path_factory.mktemp("data") / "digits", train=40)),
        tune_share=0.4,
        image_size=32,
        epochs=10,
        batch_size=12,
        lr=0.05,
        precision="float32",
        device="cpu",
        threads=1,
    )
