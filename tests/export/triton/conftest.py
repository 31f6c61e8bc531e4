"""One tiny export, and the model repository of it, for all tests of the area."""

from pathlib import Path

import pytest
from tiny_export import Tiny, export


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Exits 1, 2 and 3; read-only for its users."""
    return export(tmp_path_factory.mktemp("bundle"), (1, 2, 3))


@pytest.fixture(scope="session")
def static(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """One exit: nothing leaves early, and no model has thresholds."""
    return export(tmp_path_factory.mktemp("static"), (2,))


@pytest.fixture(scope="session")
def repository(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of `tiny`; read-only for its users."""
    return tiny.write(tmp_path_factory.mktemp("repositories") / "models")
