"""What the tests of the server share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundles import picture, write_bundle
from staged import Log, engine, flat

from exitkit.serve import server
from exitkit.serve.scheduling.scheduler import Scheduler


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle that answers at once."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "colours")


@pytest.fixture(scope="session")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle whose first segment takes about a twentieth of a second."""
    return write_bundle(tmp_path_factory.mktemp("slow") / "colours", loops=60)


@pytest.fixture(scope="session")
def bundle_at() -> Callable[[Path], Path]:
    """Return what writes a bundle that answers at once; its name is the folder's."""
    return write_bundle


@pytest.fixture(scope="session")
def paint() -> Callable[..., bytes]:
    """Return what encodes an image of one colour."""
    return picture


@pytest.fixture(scope="session")
def url(colours: Path) -> Iterator[str]:
    """Serve the quick bundle on a free port."""
    with server(colours, threads=1) as address:
        yield address


@pytest.fixture
def log() -> Log:
    """Return what three stages share that wait for a word; see `staged`."""
    return Log()


@pytest.fixture
def scheduler(log: Log) -> Iterator[Scheduler]:
    """Return a started scheduler before these stages, with batches of 4 and a queue of 6."""
    made = Scheduler(engine(log), flat(), queue=6)
    made.start()
    yield made
    log.open.set()
    made.close(10)
