"""Train in processes that are killed: a small server that forks one child per order.

    python -m tests.train.mortal ROOT-OF-RUNS FOLDER-OF-IMAGES

Orders come as JSON lines on standard input: {"name": run, "method": text, "at": event or null,
"after": seconds or null}. The child trains the run, or resumes it where it is there already. The
server kills it with SIGKILL `after` seconds from its first event whose line begins with `at`
(from its start where `at` is null). Where `after` is null the child kills itself right at that
event, before what it announces has happened. Events are the files of the root that the child
opens for writing, and its renames: "open .checkpoint.pt.x1.pt". One line answers each order:
{"died": whether, "events": lines}.

Forking costs nothing, while a process that imports torch anew takes seconds.
"""

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch._dynamo  # the first optimiser would import it in every child

from exitkit import journal, runs
from exitkit.config import parse
from exitkit.train import session
from tests.train import tiny


def train(root: Path, folder: Path, order: dict[str, Any]) -> None:
    run = runs.Run(root / order["name"])
    if any(journal.read(run.journal, "finish")):
        return  # the kill before came after the last line
    if run.config.exists():
        opened = session.resume(order["name"], root=root)
    else:
        config = parse(tiny.settings(folder, method=order["method"]), "the test")
        opened = session.prepare(config, name=order["name"], root=root)
    for _ in opened.run():
        pass


def tell(root: Path, pipe: int, end: str | None) -> None:
    """Write a line for every event of this process inside `root`; die at one that begins so."""

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename") or not str(arguments[0]).startswith(str(root)):
            return
        # Opening for reading is no event; mkstemp gives no mode, but it writes.
        if event == "os.rename" or arguments[1] in (None, "w", "wb", "a"):
            line = f"{event.removeprefix('os.')} {Path(arguments[0]).name}"
            os.write(pipe, f"{line}\n".encode())
            if end and line.startswith(end):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


def live(root: Path, folder: Path, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order in a child and watch over it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tell(root, write, order["at"] if order["after"] is None else None)
            train(root, folder, order)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    events = watch(read, child, order["at"], order["after"])
    os.close(read)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the child failed")
    return {"died": os.WIFSIGNALED(status), "events": events}


def watch(read: int, child: int, at: str | None, after: float | None) -> list[str]:
    """Collect events until the child has ended; kill it when its time has come."""
    text = ""
    limit = None if after is None or at else time.monotonic() + after
    while True:
        wait = None if limit is None else max(0.0, limit - time.monotonic())
        if not select.select([read], [], [], wait)[0]:
            os.kill(child, signal.SIGKILL)
            limit = None
            continue
        part = os.read(read, 65536)
        if not part:
            return text.splitlines()
        text += part.decode()
        if at and after is not None and any(line.startswith(at) for line in text.splitlines()):
            limit, at = time.monotonic() + after, None


if __name__ == "__main__":
    assert torch._dynamo
    for line in sys.stdin:
        answer = live(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
