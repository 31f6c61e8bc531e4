"""The container file: linted, and what it says is true of the command and the server."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import container
import pytest

from exitkit.cli.main import group

HADOLINT = Path(sys.executable).with_name("hadolint")
TEXT = container.FILE.read_text()
SAID = dict(container.read(TEXT))  # of every instruction the last: what the image does


def lint(text: str) -> subprocess.CompletedProcess[str]:
    command = [str(HADOLINT), "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_the_linter_finds_nothing() -> None:
    done = lint(TEXT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [("FROM python:latest", "DL3007"), ("RUN cd /tmp && pip install numpy", "DL3003"),
     ("CMD exitkit serve", "DL3025"), ("USER root", "DL3002")],
)  # fmt: skip
def test_the_linter_would_find_something(line: str, rule: str) -> None:
    done = lint(f"{TEXT}\n{line}\n")
    assert done.returncode != 0
    assert rule in done.stdout


def test_it_is_not_root_and_takes_the_signal_that_ends_the_server() -> None:
    user, _, group_ = SAID["USER"].partition(":")
    assert int(user) > 0
    assert int(group_) > 0
    assert SAID["STOPSIGNAL"] == "SIGTERM"


def test_it_names_no_package_index() -> None:
    addresses = set(re.findall(r"https?://[^/'\"\s]+", TEXT))
    assert addresses == {"http://127.0.0.1:8000"}
    assert not re.search(r"index|trusted-host", TEXT)


def test_its_command_is_one_of_exitkit_and_its_ports_are_the_servers() -> None:
    assert json.loads(SAID["ENTRYPOINT"]) == ["exitkit"]
    words = json.loads(SAID["CMD"])
    command = group.get_command(click.Context(group), words[0])
    assert command is not None
    asked = command.make_context(words[0], words[1:]).params
    assert asked["bundles"] == ("/bundle",)
    assert asked["host"] == "0.0.0.0"
    assert SAID["EXPOSE"].split() == [str(asked["port"]), str(asked["port"] + 1)]
    assert f":{asked['port']}/" in SAID["HEALTHCHECK"]


def test_its_health_check_asks_a_route_that_needs_no_token() -> None:
    from exitkit.serve.web.security import OPEN

    found = re.search(r"127\.0\.0\.1:8000(/[^']+)'", SAID["HEALTHCHECK"])
    assert found is not None
    assert found[1] in OPEN


def test_the_build_sees_only_what_is_copied() -> None:
    first, *kept = [
        line for line in container.IGNORE.read_text().splitlines() if not line.startswith("#")
    ]
    assert first == "*"
    sources = {
        word
        for name, rest in container.read(TEXT)
        if name == "COPY" and not rest.startswith("--from=")
        for word in rest.split()[:-1]
    }
    assert {f"!{source}" for source in sources} == {line for line in kept if line.startswith("!")}
