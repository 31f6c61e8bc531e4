"""How training looks while it runs: one live line on a terminal, one line per epoch elsewhere."""

import sys
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self, TextIO

BAR, EVERY_S = 20, 0.5


class Epoch(Protocol):
    """What is read of a finished epoch."""

    @property
    def epoch(self) -> int:
        """0-based number."""

    @property
    def epochs(self) -> int:
        """How many there are."""

    @property
    def loss(self) -> float:
        """Mean over the steps."""

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Share of right answers per exit."""

    @property
    def images_per_s(self) -> float:
        """Training images per second."""

    @property
    def seconds_left(self) -> float:
        """Until the last epoch is finished."""


class Place(Protocol):
    """Where training stands inside the running epoch; read from another thread."""

    epoch: int
    step: int
    steps: int
    images: int


def line(record: Epoch, exits: Iterable[int]) -> str:
    """Describe a finished epoch: loss, accuracy per exit on the tune split, speed, time left."""
    each = "  ".join(
        f"exit {number} {accuracy:6.1%}"
        for number, accuracy in zip(exits, record.accuracy, strict=True)
    )
    width = len(str(record.epochs))
    return (
        f"epoch {record.epoch + 1:{width}}/{record.epochs}  loss {record.loss:.3f}  {each}  "
        f"{record.images_per_s:,.0f} images/s  {_clock(record.seconds_left)} left"
    )


class Progress:
    """Shows epochs on a stream; on a terminal one line is kept up to date while the block runs.

    Args:
        exits: numbers of the exits, in the order of the records' accuracies.
        place: where training stands; only a live line looks at it.
        stream: where to; standard error by default.
    """

    def __init__(
        self, exits: Iterable[int], place: Place | None = None, stream: TextIO | None = None
    ) -> None:
        self._exits, self._place = tuple(exits), place
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._last: Epoch | None = None
        self._ended = threading.Event()
        self._painter = threading.Thread(target=self._paint_on, daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            self._painter.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the live line, so that whatever follows starts on its own."""
        if self._live:
            self._ended.set()
            self._painter.join()
            self._paint()
            self._stream.write("\n")

    def show(self, record: Epoch) -> None:
        """Show one more finished epoch."""
        self._last = record
        if not self._live:
            self._stream.write(line(record, self._exits) + "\n")
            self._stream.flush()

    def _paint_on(self) -> None:
        while not self._ended.wait(EVERY_S):
            self._paint()

    def _paint(self) -> None:
        # "\x1b[K" wipes what a longer line before has left.
        self._stream.write(f"\r{self._bar()}\x1b[K")
        self._stream.flush()

    def _bar(self) -> str:
        place, last = self._place, self._last
        share = place.step / place.steps if place is not None and place.steps else 0.0
        if last is None:
            return f"[{_filled(share)}] first epoch"
        done = last.epoch + 1
        # Between two epochs the last one's place still stands.
        inside = share if place is not None and place.epoch == done else 0.0
        return f"[{_filled((done + inside) / last.epochs)}] {line(last, self._exits)}"


def _filled(share: float) -> str:
    full = round(BAR * min(share, 1.0))
    return "=" * full + " " * (BAR - full)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
