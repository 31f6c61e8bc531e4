import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import exitkit as package
from exitkit.cli import history, main

from .conftest import Exitkit

HEAVY = ("torch", "numpy", "onnxruntime", "onnx", "fastapi", "matplotlib", "sklearn", "PIL")
COMMANDS = [
    "demo", "train", "evaluate", "prune", "export", "inspect", "bench", "serve", "predict",
    "report", "methods", "models", "runs", "doctor",
]  # fmt: skip
RESULTS = [name for name in COMMANDS if name != "serve"]


def command(name: str) -> click.Command:
    found = main.group.get_command(click.Context(main.group), name)  # type: ignore[attr-defined]
    assert isinstance(found, click.Command)
    return found


def test_the_commands_are_these() -> None:
    assert list(main.COMMANDS) == COMMANDS


def test_no_help_loads_what_is_slow_to_load() -> None:
    code = (
        "import sys; from exitkit.cli import main\n"
        f"for name in {COMMANDS}:\n"
        "    assert main.run([name, '--help']) == 0\n"
        f"loaded = [m for m in {HEAVY} if m in sys.modules]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_the_command_accepts(name: str) -> None:
    found = command(name)
    lines = [line.strip() for line in (found.epilog or "").splitlines()]
    examples = [shlex.split(line) for line in lines if line.startswith(f"exitkit {name}")]
    assert examples
    for words in examples:
        found.make_context(name, words[2:])


@pytest.mark.parametrize("name", RESULTS)
def test_every_command_with_a_result_takes_json(name: str) -> None:
    assert any("--json" in option.opts for option in command(name).params)


def test_exitkit_alone_shows_the_commands(exitkit: Exitkit) -> None:
    said = exitkit()
    assert said.code == 0
    for name, text in main.COMMANDS.items():
        assert f"{name} " in said.out
        assert text in said.out


def test_the_version(exitkit: Exitkit) -> None:
    assert exitkit("--version").out == f"exitkit {package.__version__}\n"


def test_an_unknown_command_names_the_nearest_and_all(exitkit: Exitkit) -> None:
    said = exitkit("exprot")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith(
        "error: command 'exprot': no such command; did you mean 'export'? choose one of: bench, "
    )


def test_an_unknown_option_says_where_help_is(exitkit: Exitkit) -> None:
    said = exitkit("export", "--exit", "2")
    assert said.code == 2
    assert said.err.startswith("error: exitkit export: No such option '--exit'")
    assert said.err.endswith("; see exitkit export --help\n")


def test_a_missing_package_names_the_extra(
    exitkit: Exitkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(history, "listed", lacking)
    said = exitkit("runs")
    assert said.code == 2
    assert said.err == (
        'error: exitkit runs: torch is not installed; pip install "exitkit[train]"\n'
    )


def test_what_nobody_expected_is_called_a_bug_with_its_traceback(
    exitkit: Exitkit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(history, "listed", lambda: 1 / 0)
    said = exitkit("runs")
    assert said.code == 1
    assert "error: this is a bug: ZeroDivisionError: division by zero; please report" in said.err
    assert caplog.records[-1].exc_info is not None


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_no_bug(
    exitkit: Exitkit, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused() -> None:
        raise OSError(number, os.strerror(number), "runs/x")

    monkeypatch.setattr(history, "listed", refused)
    said = exitkit("runs")
    assert said.code == 2
    assert said.err == (
        f"error: exitkit runs: runs/x: {os.strerror(number)}; "
        "check that it is free, may be written and has room\n"
    )


def test_an_interrupted_command_exits_with_130(
    exitkit: Exitkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(history, "listed", interrupted)
    assert exitkit("runs").code == 130


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["export"], "error: run latest: not in runs/ (it has: none); run exitkit train first"),
        (["evaluate", "x"], "error: run x: not in runs/"),
        (["train", "--resume"], "error: run latest: not in runs/"),
        (["serve"], "error: bundle latest: not in bundles/ (it has: none); run exitkit export"),
        (["bench"], "error: bundle latest: not in bundles/"),
        (["report"], "error: run latest: not in runs/"),
        (["predict", "."], "error: bundle latest: not in bundles/"),
        (["export", "--verify", ""], "error: bundle '': the name is empty, like a shell variable"),
        (["inspect", ""], "error: bundle '': the name is empty"),
        (["serve", ""], "error: bundle '': the name is empty"),
        (["predict", ".", "--bundle", ""], "error: bundle '': the name is empty"),
        (["export", ""], "error: run '': the name is empty"),
        (["evaluate", ""], "error: run '': the name is empty"),
        (["train", "--resume", ""], "error: run '': the name is empty"),
    ],
)
def test_an_empty_folder_is_no_bug(
    exitkit: Exitkit, here: Path, arguments: list[str], error: str
) -> None:
    said = exitkit(*arguments)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(error)
    assert list(here.iterdir()) == []
