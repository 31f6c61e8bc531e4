import pytest
import torch

from exitkit import data
from exitkit.config import parse
from exitkit.train import assemble, session
from exitkit.train.settings import resolve
from tests.train import tiny

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads():
    """A run sets torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start(digit_folder):
    """Return a function that assembles a trainer at its first epoch, its loader and data."""

    def assembled(method="deep", **changes):
        asked = parse(tiny.settings(digit_folder, method=method, **changes), "the test")
        sets = data.load(asked)
        config = resolve(asked, sets, CPU)
        parts = assemble.assemble(config, sets, CPU)
        return assemble.trainer(config, parts, sets, CPU), parts.loader, sets

    return assembled


@pytest.fixture
def prepare(digit_folder, tmp_path):
    """Return a function that prepares a session in a folder of its own."""

    def prepared(name=None, **changes):
        config = parse(tiny.settings(digit_folder, **changes), "the test")
        return session.prepare(config, name=name, root=tmp_path / "runs")

    return prepared
