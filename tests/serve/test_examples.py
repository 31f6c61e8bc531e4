"""The curl commands of docs/serving.md, run as they stand there against a real server."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exitkit.serve import server

Paint = Callable[..., bytes]
PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEY, EVENT, ERROR = re.compile(r'"(\w+)":'), re.compile(r"^event: (\w+)$", re.MULTILINE), '{"error"'
HEAD = re.compile(r"^(HTTP/\S+ \d+|content-type: \S+|[\w-]+(?=: ))", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Return the page's curl commands, and what it says that they print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall(PAGE.read_text()):
        if not block.startswith("$ "):
            continue
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return [(command, "\n".join(lines).strip()) for command, lines in found if "curl" in command]


@pytest.fixture(scope="module")
def address(
    tmp_path_factory: pytest.TempPathFactory, bundle_at: Callable[[Path], Path]
) -> Iterator[str]:
    """Serve a bundle of the page's name and exits."""
    folder = bundle_at(tmp_path_factory.mktemp("page") / "deep-resnet18-1")
    with server(folder, threads=1) as url:
        yield url.removeprefix("http://")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, paint: Paint) -> Path:
    """Return a folder with the files that the commands send."""
    made = tmp_path_factory.mktemp("files")
    # Both leave at the deepest exit, as the page's do.
    (made / "digit7.png").write_bytes(paint(120, 140, 130))
    (made / "digit8.png").write_bytes(paint(130, 120, 140))
    (made / "notes.txt").write_text("hello\n")
    with (made / "big.bin").open("wb") as file:
        file.truncate(70_000_000)
    tensor = {"name": "images", "datatype": "FP32", "shape": [2, 3, 32, 32], "data": [0.0] * 6144}
    wishes = {"threshold": 0.5, "max_exit": 4}
    outputs = [{"name": name} for name in ("label", "exit_index", "confidence")]
    body = {"id": "a1", "inputs": [tensor], "parameters": wishes, "outputs": outputs}
    (made / "two.json").write_text(json.dumps(body))
    file = {"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1]}]}
    best = [
        {"name": "label"}, {"name": "probabilities", "parameters": {"classification": 2}},
    ]  # fmt: skip
    (made / "request.json").write_text(json.dumps({**file, "outputs": best}))
    return made


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(("command", "says"), examples())
def test_a_command_of_the_page_prints_what_stands_there(
    address: str, folder: Path, command: str, says: str
) -> None:
    command = command.replace("curl ", "curl -sS ").replace("localhost:8000", address)
    run = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    if "deadline_ms" in command:  # what is finished by then is up to the machine
        assert ERROR in run.stdout or '"deadline_hit"' in run.stdout
        return
    assert EVENT.findall(run.stdout) == EVENT.findall(says)
    assert set(HEAD.findall(says)) <= set(HEAD.findall(run.stdout))
    assert set(KEY.findall(says)) <= set(KEY.findall(run.stdout)), run.stdout
    if says.startswith(ERROR):
        assert run.stdout == says
