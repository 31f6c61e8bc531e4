"""Put a finished bundle in its place, or leave nothing."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exitkit.atomic import point, write_text
from exitkit.bundle import MANIFEST
from exitkit.errors import ConfigError, ParityError
from exitkit.runs import LATEST


@contextmanager
def building(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final` to build in; move it there when the block succeeds.

    An older bundle of that name is moved aside, replaced and then removed; if the block raises
    it stays as it is. `latest` beside it points to the new bundle afterwards. What was compared
    where the gate refuses lies in a file beside `final`, until a bundle of that name succeeds.

    Raises:
        ConfigError: something that is no bundle lies at `final`.
        ParityError: of the block; it names that file.
    """
    if final.is_symlink() or (final.exists() and not (final / MANIFEST).is_file()):
        raise ConfigError(f"bundle {final}", "something else lies there", "choose another --name")
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}."))
    failed = final.with_name(f"{final.name}.parity-failed.json")
    try:
        yield folder
        _share(folder)
        _replace(folder, final)
        point(final.parent / LATEST, final.name)
        failed.unlink(missing_ok=True)
    except ParityError as error:
        table = {"asked": error.asked, "found": error.found, "compared": error.table}
        write_text(failed, json.dumps(table, indent=2) + "\n")
        do = f"{error.do}; {failed} says what was compared"
        raise ParityError(error.asked, error.found, do, error.table, error.rows) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _share(folder: Path) -> None:
    """Give the folder the rights of a usual one: temporary folders are their owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def _replace(folder: Path, final: Path) -> None:
    if not final.exists():
        os.rename(folder, final)
        return
    # A folder cannot be renamed over a full one. Killed between the two renames, the old bundle
    # still lies whole under its hidden name.
    aside = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.old."))
    try:
        os.rename(final, aside)
        os.rename(folder, final)
    finally:
        if not final.exists():  # interrupted in between
            os.rename(aside, final)
        shutil.rmtree(aside, ignore_errors=True)
