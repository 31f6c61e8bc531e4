"""Signals that a server listens to, and what they mean before it serves."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)  # not on Windows
SIGNALS = (signal.SIGINT, signal.SIGTERM, *((HANGUP,) if HANGUP else ()))
Handler = Callable[[int, FrameType | None], Any]  # Any: nobody looks at it


class Stopped(BaseException):
    """A server is to end that has not begun to serve."""


@contextlib.contextmanager
def handled(handler: Handler, numbers: tuple[signal.Signals, ...] = SIGNALS) -> Iterator[None]:
    """Let a handler have these signals while the block runs; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def raised() -> Iterator[Callable[[], None]]:
    """Let SIGINT and SIGTERM raise `Stopped` in the block, but where it handles them itself.

    What is yielded raises it again where Python has lost it, in the middle of an import.

    SIGHUP finds nothing yet that could be loaded anew; of a terminal that is gone it stops, too.
    """
    terminal, stopped = os.isatty(0), False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped and (number != HANGUP or (terminal and hung_up())):
            stopped = True  # once: what is ended now is not to be disturbed
            raise Stopped

    def again() -> None:
        if stopped:
            raise Stopped

    with handled(stop):
        yield again


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process at once and well, while there is nothing to finish.

    An exception would come in the middle of imports, where Python may report and forget it.
    """
    with handled(lambda *_: os._exit(0), (signal.SIGINT, signal.SIGTERM)):
        yield


def hung_up() -> bool:
    """Return whether the terminal is gone, which SIGHUP says too."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return True
    return False
