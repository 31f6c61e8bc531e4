import pytest
import torch


@pytest.fixture(autouse=True)
def _threads():
    """A run sets torch's threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
