"""Documents show commands that parse, and name files, targets and extras that exist."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from exitkit.cli.main import COMMANDS, group

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# Folders that commands write.
WRITTEN = ("runs/", "bundles/", "results/", "data/")
FOLDERS = ("exitkit", "tests", "docs", "benchmarks", "recipes", ".ci")
FILES = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.is_file()]
FENCE = re.compile(r"^```.*?\n(.*?)^```", re.MULTILINE | re.DOTALL)
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def blocks(text: str) -> Iterator[str]:
    """The lines of a document's code blocks; a line that ends in a backslash goes on."""
    for block in FENCE.findall(text):
        yield from block.replace("\\\n", " ").splitlines()


def spans(text: str) -> list[str]:
    """What stands in backticks outside code blocks."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def shown(text: str, program: str) -> list[list[str]]:
    """The words after `program`, wherever a document shows it as a command."""
    lines = [line.strip().removeprefix("$ ") for line in (*blocks(text), *spans(text))]
    return [
        shlex.split(line.removeprefix(program), comments=True)
        for line in lines
        if line == program or line.startswith(f"{program} ")
    ]


def parsed(words: list[str]) -> click.Context:
    """Parse a command line as exitkit would, and run nothing."""
    command = group.get_command(click.Context(group), words[0])
    assert command is not None, f"exitkit has no command {words[0]!r}"
    return command.make_context(words[0], words[1:])


def options() -> set[str]:
    """Every option of every command, and of the scripts in benchmarks/."""
    found = {"--help", "--version"}
    for name in COMMANDS:
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found |= {word for one in command.params for word in one.opts if word.startswith("--")}
    for script in (ROOT / "benchmarks").glob("*.py"):
        found |= set(re.findall(r'add_argument\("(--[a-z-]+)"', script.read_text()))
    return found


@pages
def test_every_command_shown_parses(page: Path) -> None:
    for words in shown(page.read_text(), "exitkit"):
        if len(words) == 1:  # a command by its name alone, whatever it needs to run
            assert words[0] in COMMANDS, words
        elif words:
            parsed(words)


def test_a_wrong_command_would_be_noticed() -> None:
    text = "`exitkit train --epochs 2`\n```\n$ exitkit serve --prot 1  # no\n```\n"
    assert shown(text, "exitkit") == [["serve", "--prot", "1"], ["train", "--epochs", "2"]]
    parsed(["train", "--epochs", "2"])
    with pytest.raises(click.NoSuchOption, match="prot"):
        parsed(["serve", "--prot", "1"])
    with pytest.raises(AssertionError, match="no command 'tran'"):
        parsed(["tran"])


@pages
def test_every_option_named_exists(page: Path) -> None:
    known = options()
    for span in spans(page.read_text()):
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span):
            assert word in known, f"`{span}`"


@pages
def test_settings_named_after_set_exist(page: Path) -> None:
    from exitkit import config

    for word in re.findall(r"--set ([a-z_]+=[^\s`]+)", page.read_text()):
        name, _, value = word.partition("=")
        if (name, value) != ("key", "value"):
            assert getattr(config.parse({name: value}, page.name), name) is not None


@pages
def test_methods_named_can_be_trained(page: Path) -> None:
    from exitkit.objectives import build

    for quoted, plain in re.findall(r"--method (?:'([^']+)'|([a-z]+))", page.read_text()):
        assert build.parse(quoted or plain), f"{page.name} names no method in {quoted or plain!r}"


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


@pages
def test_every_file_named_exists(page: Path) -> None:
    text = page.read_text()
    words = {word for line in (*blocks(text), *spans(text)) for word in line.split()}
    for word in sorted(words):
        path = word.strip("(),;:")
        if path.startswith(tuple(f"{folder}/" for folder in FOLDERS)):
            assert list(ROOT.glob(path.rstrip("/"))), path
        elif path.endswith((".py", ".md")) and not path.startswith(WRITTEN):
            assert found(path), path


def found(path: str) -> bool:
    """Whether a file lies at the root, or somewhere under that name or its end."""
    return (ROOT / path).exists() or any(file.as_posix().endswith(f"/{path}") for file in FILES)


@pages
def test_every_make_target_named_exists(page: Path) -> None:
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in shown(page.read_text(), "make"):
        assert words[0] in rules, words


@pages
def test_scripts_that_are_shown_take_their_options(page: Path) -> None:
    for words in shown(page.read_text(), "python"):
        if words[0].endswith(".py"):
            text = (ROOT / words[0]).read_text()
            for word in words[1:]:
                assert not word.startswith("--") or f'"{word}"' in text, words


@pages
def test_every_extra_named_can_be_installed(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for names in re.findall(r"(?:exitkit|\.)\[([a-z,-]+)\]", page.read_text()):
        assert set(names.split(",")) <= set(project["optional-dependencies"]), names


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text())
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in linked


def test_parsing_the_shown_commands_runs_nothing_heavy() -> None:
    code = (
        "import sys; from exitkit.cli.main import COMMANDS, group; import click\n"
        "[group.get_command(click.Context(group), name) for name in COMMANDS]\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
