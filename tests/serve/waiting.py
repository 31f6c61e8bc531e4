"""Waiting for what other threads and processes do: as long as it takes, but not for ever."""

import time
from collections.abc import Callable

LATEST_S = 180  # nothing is measured by it, and the machine may be busy


def wait_for(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + LATEST_S
    while not so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
