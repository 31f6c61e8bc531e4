"""The folder that processes of a server share: none stays behind, and none is taken away."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from exitkit.serve import scratch

HOLD = """
import sys
from exitkit.serve import scratch
with scratch.folder() as made:
    print(made, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_after_its_block_whatever_was_left_there(place: Path) -> None:
    with scratch.folder() as made:
        (made / "1.json").write_text("{}")
        assert list(place.iterdir()) == [made]
    assert list(place.iterdir()) == []


def test_the_next_one_removes_those_of_the_dead_and_no_other(place: Path) -> None:
    (place / "exitkit-of-somebody").mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())
        (theirs / "1.json").write_text("{}")
        with scratch.folder() as ours:
            assert {theirs, ours} < set(place.iterdir())
        assert (theirs / "1.json").exists()
        other.kill()
        other.wait(20)
        assert theirs.exists()
        with scratch.folder() as ours:
            assert set(place.iterdir()) == {ours, place / "exitkit-of-somebody"}
