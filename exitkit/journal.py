"""The journal of a run: append-only JSON lines, one event a line, flushed at once."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = 1


class Journal:
    """Appends events to one file.

    Args:
        path: the file; it is created with its first event.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def write(self, event: str, **fields: Any) -> None:  # Any: whatever JSON can hold
        """Append one event with the wall-clock time (seconds since 1970) and the schema."""
        line = json.dumps({"schema": SCHEMA, "event": event, "time_s": time.time(), **fields})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._ends_torn()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(("\n" if torn else "") + line + "\n")
            file.flush()

    def _ends_torn(self) -> bool:
        """Whether a killed process left a line without its end."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return False
        with open(self.path, "rb") as file:
            file.seek(-1, 2)
            return file.read(1) != b"\n"


def read(path: Path, event: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the events of a journal in order, or only those named `event`.

    A line that a killed process left unfinished is passed over: it never was an event.
    """
    if not Path(path).exists():
        return
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if event is None or row.get("event") == event:
                yield row


def epochs(path: Path) -> list[dict[str, Any]]:
    """Return the last record of every epoch, in order.

    A resumed run may have repeated the epoch that was cut off, and its line then stands twice.
    """
    last = {int(row["epoch"]): row for row in read(path, "epoch")}
    return [last[number] for number in sorted(last)]
