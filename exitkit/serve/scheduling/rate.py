"""Images per second of work, of late: what the time until a queue has drained is computed from."""

import math

# What was measured fades with so many seconds of work.
MEMORY_S = 2.0


class Rate:
    """A mean that forgets. One thread adds to it, any thread may read it."""

    def __init__(self) -> None:
        # Replaced together, so that nobody reads the images of one moment by the time of another.
        self._late = 0.0, 0.0

    def add(self, images: float, seconds: float) -> None:
        """Count images, or whatever else was done, in so many seconds of work."""
        kept = math.exp(-seconds / MEMORY_S)
        done, busy_s = self._late
        self._late = kept * done + images, kept * busy_s + seconds

    @property
    def per_second(self) -> float:
        """Images per second of work; 0 before the first."""
        done, busy_s = self._late
        return done / busy_s if busy_s else 0.0

    def wait_s(self, images: int) -> float:
        """Return the seconds in which so many images are answered; 1 while nobody can tell."""
        rate = self.per_second
        return images / rate if rate else 1.0
