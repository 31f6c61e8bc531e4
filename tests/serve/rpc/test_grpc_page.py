"""What docs/serving.md says of gRPC is so: its methods, its codes, and its example runs."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import serve

from exitkit.serve.intake import Held
from exitkit.serve.limits import Limits
from exitkit.serve.models import Models
from exitkit.serve.rpc import methods
from exitkit.serve.rpc.calls import Calls
from exitkit.serve.rpc.refusals import CODES

Paint = Callable[..., bytes]
PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text()
SECTION = PAGE[PAGE.index("\n### gRPC\n") : PAGE.index("\n## Status codes\n")]


def rows(first: str) -> list[list[str]]:
    """Return the rows of the section's table whose heading begins with `first`."""
    table = SECTION[SECTION.index(f"| {first}") :].split("\n\n")[0]
    return [
        [cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()[2:]
    ]


def test_every_method_is_named() -> None:
    named = {name for row in rows("method") for name in re.findall(r"`(\w+)`", row[0])}
    never = Models((), dict, lambda folder: pytest.fail(str(folder)), Limits(), None)  # type: ignore[arg-type]
    calls = Calls(None, None, Limits(), Held(1))  # type: ignore[arg-type]
    assert named == set(methods.Methods(never, calls).handlers())


def test_every_code_is_named() -> None:
    named: dict[int, str] = {}
    for row in rows("status"):
        statuses = [int(number) for number in re.findall(r"\d+", row[0])]
        codes = re.findall(r"`([A-Z_]+)`", row[1])
        codes = codes if len(codes) > 1 else codes * len(statuses)
        named |= dict(zip(statuses, codes, strict=True))
    assert named == {status: code.name for status, code in CODES.items()}


def test_the_example_runs(
    colours: Path,
    paint: Paint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = shutil.copytree(colours, tmp_path / "deep-resnet18-1")
    (tmp_path / "digit7.png").write_bytes(paint(120, 140, 130))
    code = re.findall(r"^```python\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    assert len(code) == 1
    monkeypatch.chdir(tmp_path)
    with serve(bundle) as both:
        exec(code[0].replace("localhost:8001", both.grpc) + "client.close()\n", {})
    assert capsys.readouterr().out == "[b'green'] [2]\n"
