"""Put a finished repository in its place, or leave what was there."""

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from exitkit.errors import ConfigError

MARK = "exitkit.json"


@contextmanager
def placing(final: Path, name: str, networks: Collection[str]) -> Iterator[Path]:
    """Yield an empty folder beside `final` to write in; move it there when the block succeeds.

    If the block raises, nothing is left of it and an earlier repository stays as it is.

    Args:
        final: where the repository belongs.
        name: of its model.
        networks: see `check`.

    Raises:
        ConfigError: what lies at `final` is no earlier repository of exitkit's for `name`, or one
            of another network, or someone has put something else into it.
    """
    check(final, name, networks)
    final.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    try:
        yield new
        # Temporary folders are their owner's alone; the server may run as somebody else.
        mask = os.umask(0)
        os.umask(mask)
        new.chmod(0o777 & ~mask)
        _replace(new, final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check(final: Path, name: str, networks: Collection[str]) -> None:
    """Refuse a place where something else lies than an earlier repository for `name`.

    Args:
        final: where the repository belongs.
        name: of its model.
        networks: digests of the weights that the run of this network has and had.

    Raises:
        ConfigError: with what lies there.
    """
    asked = f"Triton repository {final}"
    if not final.exists() and not final.is_symlink():
        return
    if final.is_dir() and not final.is_symlink() and not any(final.iterdir()):
        return
    try:
        mark = json.loads((final / MARK).read_text(encoding="utf-8"))
        own, models = mark["name"], {*mark["models"], MARK}
        weights = mark.get("weights", mark["network"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            asked, "something else lies there", "name a folder that does not exist"
        ) from error
    if own != name:
        raise ConfigError(asked, f"{own} lies there", f"give {name} another folder, or remove it")
    if weights not in networks:
        found = f"a repository of another network lies there, also named {name}"
        raise ConfigError(asked, found, "name another folder, or remove it")
    others = sorted(path.name for path in final.iterdir() if path.name not in models)
    if final.is_symlink() or others:
        found = f"it holds {', '.join(others)}" if others else "it is a link"
        raise ConfigError(asked, f"{found}, which exitkit did not write", "name another folder")


def _replace(new: Path, final: Path) -> None:
    if not final.exists():
        os.rename(new, final)
        return
    # A folder cannot be renamed over a full one. Killed between the two renames, the earlier
    # repository still lies whole under its hidden name.
    aside = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.old."))
    try:
        os.rename(final, aside)
        os.rename(new, final)
    finally:
        if not final.exists():  # interrupted in between
            os.rename(aside, final)
        shutil.rmtree(aside, ignore_errors=True)
