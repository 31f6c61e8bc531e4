import io
from dataclasses import dataclass

from exitkit.cli.progress import Progress


@dataclass
class Epoch:
    epoch: int = 1
    epochs: int = 12
    loss: float = 0.5
    accuracy: tuple[float, ...] = (0.931, 1.0)
    images_per_s: float = 1234.5
    seconds_left: float = 61.4


@dataclass
class Place:
    epoch: int = 0
    step: int = 0
    steps: int = 10
    images: int = 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


LINE = "epoch  2/12  loss 0.500  exit 2  93.1%  exit 4 100.0%  1,234 images/s  1:01 left"


def test_elsewhere_every_epoch_is_one_plain_line() -> None:
    stream = io.StringIO()
    with Progress((2, 4), Place(), stream) as progress:
        progress.show(Epoch())
        progress.show(Epoch(epoch=2, seconds_left=3661))
    lines = stream.getvalue().splitlines()
    assert lines[0] == LINE
    assert lines[1].endswith("1:01:01 left")
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_has_one_live_line_that_ends() -> None:
    stream = Terminal()
    with Progress((2, 4), Place(epoch=2, step=10), stream) as progress:
        progress.show(Epoch())
    # Two epochs and the whole third of twelve are done: a quarter of twenty marks.
    last = stream.getvalue().rsplit("\r", 1)[1]
    assert last == f"[=====               ] {LINE}\x1b[K\n"


def test_before_the_first_epoch_the_bar_counts_its_steps() -> None:
    stream = Terminal()
    with Progress((2, 4), Place(step=5), stream):
        pass
    assert "[==========          ] first epoch" in stream.getvalue()
