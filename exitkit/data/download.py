"""Fetch a file that the user asked for by name, and keep it only if it is the right one."""

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from exitkit.atomic import replacing
from exitkit.errors import DataError

CHUNK = 1 << 20
TIMEOUT_S = 30.0
INTERVAL_S = 5.0  # between two lines of progress

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A file on the network.

    Attributes:
        url: its address.
        sha256: of its bytes, 64 hexadecimal digits.
        size: its bytes; not one more is read.
    """

    url: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


def fetch(source: Source, target: Path) -> Path:
    """Download to `target`, which appears only when its checksum is right; return `target`.

    Raises:
        DataError: the network or the disk failed, or other bytes came than those wanted.
    """
    log.info("fetching %s (%.0f MB) to %s", source.url, source.size / 1e6, target)
    try:
        with (
            urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as response,
            replacing(target) as temporary,
        ):
            with open(temporary, "wb") as file:
                found = _copy(response, file, source)
            if found != source.sha256:
                raise DataError(
                    source.url,
                    f"SHA-256 {found} instead of {source.sha256}",
                    f"try again, or put the right {source.file} into {target.parent}",
                )
    except (OSError, http.client.HTTPException) as error:
        raise DataError(
            source.url,
            f"cannot be fetched ({error})",
            f"fetch it by other means and put it into {target.parent}",
        ) from error
    return target


def _copy(response: IO[bytes], file: IO[bytes], source: Source) -> str:
    """Copy at most one byte more than expected; return the SHA-256 of what came."""
    digest, done, said = hashlib.sha256(), 0, time.monotonic()
    while done <= source.size and (chunk := response.read(min(CHUNK, source.size + 1 - done))):
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if time.monotonic() - said > INTERVAL_S:
            said = time.monotonic()
            log.info("fetched %.0f of %.0f MB", done / 1e6, source.size / 1e6)
    return digest.hexdigest()
