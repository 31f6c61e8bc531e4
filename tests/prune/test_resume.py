"""A pruned run that was interrupted ends like one that nobody disturbed, bit for bit."""

from pathlib import Path

import pytest

from exitkit.cli import main
from exitkit.errors import CheckpointError
from exitkit.runs import Run
from exitkit.train import prune, session
from tests.train import tiny

GIVEN = {"ema": 0.9}


@pytest.fixture(scope="module")
def branched(tmp_path_factory: pytest.TempPathFactory, digit_folder: Path) -> Run:
    """A run of a method with branches of its own.."""
    settings = tiny.settings(digit_folder, method="one", epochs=1)
    return session.train(root=tmp_path_factory.mktemp("one"), name="one", **settings)


@pytest.fixture(params=["mate", "one"])
def parent(request: pytest.FixtureRequest, trained_run: Run, branched: Run) -> Run:
    return {"mate": trained_run, "one": branched}[request.param]


def test_it_resumes_to_the_bit(parent: Run, tmp_path: Path) -> None:
    calm = prune.prune(parent, ratio=0.5, epochs=3, root=tmp_path, name="calm", **GIVEN)
    torn = prune.prepare(parent, ratio=0.5, epochs=3, root=tmp_path, name="torn", given=GIVEN)
    # Once before the first step, then after every epoch.
    for _ in range(3):
        torn = session.resume("torn", root=tmp_path)
        next(torn.run())
    for _ in session.resume("torn", root=tmp_path).run():
        raise AssertionError("three epochs were finished")
    tiny.assert_same_runs(torn.files, calm)
    assert prune.compared(torn.files)["exits"] == prune.compared(calm)["exits"]


def test_the_command_that_is_told_resumes_it(
    trained_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    begun = prune.prepare(trained_run, ratio=0.5, epochs=1, root=Path("runs"))
    words = begun.how_to_resume().rpartition("exitkit ")[2].split()
    assert words == ["train", "--resume", "small-pruned-1"]
    assert main.run(words) == 0
    assert "run small-pruned-1: every exit on the 48 images" in capsys.readouterr().out


def test_without_its_first_checkpoint_it_is_refused(trained_run: Run, tmp_path: Path) -> None:
    begun = prune.prepare(trained_run, ratio=0.5, epochs=1, root=tmp_path)
    begun.files.checkpoint.unlink()
    with pytest.raises(CheckpointError, match="stopped before its pruned weights were written"):
        session.resume(begun.files.name, root=tmp_path)
