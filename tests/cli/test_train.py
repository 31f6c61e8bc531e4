import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Exitkit

SMALL = ("--method", "deep", "--arch", "resnet18", "--width", "0.125", "--precision", "float32",
         "--set", "threads=1")  # fmt: skip


def test_training_tells_its_data_first_and_its_exits_last(
    exitkit: Exitkit, here: Path, digit_folder: Path
) -> None:
    said = exitkit("train", *SMALL, "--data", str(digit_folder), "--epochs", "1", "--json")
    assert said.code == 0
    assert said.err.startswith("data ")
    assert "--data chooses another" in said.err.splitlines()[0]
    assert "epoch 1/1" in said.err
    table = said.table
    assert table["run"] == "deep-resnet18-1"
    assert [row["exit"] for row in table["exits"]] == [1, 2, 3, 4]
    assert (here / "runs" / "latest" / "scores-tune.npz").exists()
    assert table["observations"] == {}


def test_training_tells_what_its_method_has_seen(
    exitkit: Exitkit, here: Path, digit_folder: Path
) -> None:
    arguments = ["mate" if word == "deep" else word for word in SMALL]
    said = exitkit("train", *arguments, "--data", str(digit_folder), "--epochs", "1")
    (line,) = (line for line in said.out.splitlines() if line.startswith("seen in the last epoch"))
    assert re.fullmatch(
        r"seen in the last epoch: teacher_diversity \S+(, nearest_teacher_\d [1-4]){4}", line
    )


def test_ctrl_c_keeps_the_epochs_and_says_how_to_resume(
    exitkit: Exitkit, here: Path, digit_folder: Path
) -> None:
    arguments = (*SMALL, "--data", str(digit_folder), "--epochs", "60", "--name", "long")
    with subprocess.Popen(
        [sys.executable, "-m", "exitkit", "train", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        # A shell's background job, and all that it starts, is deaf to Ctrl-C; a user's is not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "epochs are kept" in rest
    assert "exitkit train --resume long" in rest
    listed = exitkit("runs", "--json").table["runs"]
    assert [run["name"] for run in listed] == ["long"]
    assert 1 <= listed[0]["epochs_done"] < 60
    assert not listed[0]["finished"]


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (["--lr", "1"], "--resume with --lr: a run goes on with the settings it began with"),
        (["--name", "x"], "--resume with --name"),
        (["--set", "gamma=1"], "--resume with --gamma"),
    ],
)
def test_a_resumed_run_takes_no_settings(
    exitkit: Exitkit, here: Path, extra: list[str], error: str
) -> None:
    said = exitkit("train", "--resume", *extra)
    assert said.code == 2
    assert error in said.err


def test_a_run_that_holds_nothing_out_is_sent_to_evaluate(
    exitkit: Exitkit, here: Path, digit_folder: Path
) -> None:
    held = ("--paper-protocol", "--set", "tune_share=0", "--set", "warmup=0")
    said = exitkit("train", *SMALL, "--data", str(digit_folder), "--epochs", "1", *held)
    assert said.code == 0
    assert said.out.endswith("no images were held out\nnext: exitkit evaluate\n")
