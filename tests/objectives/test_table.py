"""Tables of predictions: what they remember, how precisely, and where."""

from collections.abc import Callable

import pytest
import torch
from contracts import trial
from torch import nn

from exitkit.objectives import build, table
from exitkit.objectives.table import Table
from objectives import by_hand

UNSEEN = torch.tensor([[0.5, 0.5], [1.0, 0.0]])


def test_what_was_written_is_read_and_what_was_not_is_not() -> None:
    memory = Table(4, 2)
    memory.write(torch.tensor([2]), torch.tensor([[0.25, 0.75]]))
    read = memory.read(torch.tensor([2, 0]), UNSEEN)
    assert read.tolist() == [[0.25, 0.75], [1.0, 0.0]]
    memory.write(torch.tensor([0, 2]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert memory.read(torch.tensor([2, 0]), UNSEEN).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_rows_of_several_voices_and_targets_of_several_exits() -> None:
    voices = Table(4, 3, 2)
    voices.write(torch.tensor([1]), torch.full((1, 3, 2), 0.5))
    read = voices.read(torch.tensor([1, 3]), UNSEEN.unsqueeze(1))
    assert read.tolist() == [[[0.5, 0.5]] * 3, [[1.0, 0.0]] * 3]
    one = Table(4, 2).read(torch.tensor([1, 3]), UNSEEN.expand(3, 2, 2))
    assert one.tolist() == [UNSEEN.tolist()] * 3


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Set the limits as low as the test wants them."""

    def lower(half: int, host: int) -> None:
        monkeypatch.setattr(table, "HALF_ABOVE", half)
        monkeypatch.setattr(table, "HOST_ABOVE", host)

    return lower


def test_precision_and_place_by_size(limits: Callable[[int, int], None]) -> None:
    limits(80, 40)
    small, medium, large = Table(10, 2), Table(10, 1, 2), Table(11, 2)
    assert small.rows.dtype == medium.rows.dtype == torch.float32
    assert (small.bytes, large.bytes) == (80, 44)
    assert large.rows.dtype == torch.half
    limits(80, 44)
    assert [Table(11, 2).stays, Table(12, 2).stays] == [False, True]


def test_half_precision_keeps_three_digits(limits: Callable[[int, int], None]) -> None:
    limits(0, 2**30)
    memory = Table(8, 1000)
    said = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=1)
    memory.write(torch.arange(8), said)
    read = memory.read(torch.arange(8), torch.zeros(8, 1000))
    assert read.dtype == torch.float32
    torch.testing.assert_close(read, said, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(read.sum(dim=1), torch.ones(8), rtol=1e-3, atol=0)


def test_a_table_that_is_too_large_stays_where_it_is(limits: Callable[[int, int], None]) -> None:
    both = nn.ModuleDict({"small": Table(2, 2)})
    limits(0, 0)
    both["large"] = Table(2, 2)
    both.to("meta")
    assert [both[name].rows.device.type for name in ("small", "large")] == ["meta", "cpu"]
    # and answers where it is asked
    read = both["large"].read(torch.tensor([0]), torch.zeros(1, 2, device="meta"))
    assert read.device.type == "meta"


def test_half_precision_is_saved_and_loaded_as_it_is(limits: Callable[[int, int], None]) -> None:
    limits(0, 2**30)
    memory, other = Table(2, 2), Table(2, 2)
    memory.write(torch.tensor([1]), torch.tensor([[0.3, 0.7]]))
    saved = memory.state_dict()
    assert saved["rows"].dtype == torch.half
    other.load_state_dict(saved)
    assert torch.equal(other.rows, memory.rows)


def test_large_tables_are_told_of(limits: Callable[[int, int], None]) -> None:
    assert table.notes(build.build("pskd+dlb", by_hand.blueprint(1, 2))) == []
    limits(0, 0)
    (line,) = table.notes(build.build("pskd+dlb", by_hand.blueprint(1, 2, samples=1200)))
    assert line == (
        "the method remembers 1,200 x 2 predictions in half precision: 0.0 GB in the processor's "
        "memory, and again in every checkpoint"
    )


@pytest.mark.parametrize("text", ["pskd", "dtskd"])
def test_methods_learn_in_half_precision_as_in_single(
    text: str, limits: Callable[[int, int], None]
) -> None:
    single = trial.last(trial.make(text))
    limits(0, 2**30)
    half = trial.last(trial.make(text))
    torch.testing.assert_close(half.total, single.total, rtol=1e-3, atol=1e-3)
    assert not torch.equal(half.total, single.total)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("host", [0, 2**30])
def test_a_gpu_finds_what_it_wrote(host: int, limits: Callable[[int, int], None]) -> None:
    limits(2**30, host)
    memory = Table(512, 10).to("cuda")
    assert memory.rows.is_cuda == bool(host)
    draw = torch.Generator().manual_seed(0)
    expected = torch.zeros(512, 10)
    for _ in range(50):
        index = torch.randperm(512, generator=draw)[:64]
        values = torch.rand(64, 10, generator=draw)
        memory.write(index, values.to("cuda", non_blocking=True))
        expected[index] = values
        read = memory.read(index, torch.zeros(64, 10, device="cuda"))
        assert torch.equal(read.cpu(), values)
    assert torch.equal(memory.state_dict()["rows"].cpu(), expected)
