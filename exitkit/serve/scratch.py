"""The folder in which the processes of one server leave what they count; none stays behind."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "exitkit-"
# Its owner holds a lock on it, which ends with the owner, however that ends.
OWNER = "owner.lock"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Yield a new folder that is gone after the block.

    Whoever is killed cannot remove the own one: the next server does.
    """
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made:
        new, owner = Path(made) / "new", Path(made) / OWNER
        with new.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(owner)  # now others may find it
            yield Path(made)


def _sweep(place: Path) -> None:
    """Remove the folders of servers that were killed."""
    for owner in place.glob(f"{PREFIX}*/{OWNER}"):
        # Its server lives, or removes it at this moment.
        with contextlib.suppress(OSError):
            if owner.parent.lstat().st_uid == os.getuid():
                with owner.open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(owner.parent)
