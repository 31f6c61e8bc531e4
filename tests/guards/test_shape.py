"""The project stays readable: short files, telling names, explained public definitions."""

import ast
import importlib.metadata
import re
from pathlib import Path

import pytest

import exitkit
from exitkit import names

PACKAGE = Path(exitkit.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = [
    *SOURCES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "benchmarks").glob("*.py")),
    *sorted((PACKAGE / "serve" / "page").iterdir()),
]


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert path.read_text().count("\n") <= 300


def test_no_file_hides_behind_a_name_that_says_nothing() -> None:
    refused = {"utils", "common", "helpers", "misc", "manager"}
    assert not [p for p in SOURCES if refused & set(p.relative_to(PACKAGE).with_suffix("").parts)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_definitions_are_explained(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if path.name != "__init__.py" or tree.body:
        assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            assert node.name.startswith("_") or ast.get_docstring(node), f"{path}: {node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_unfinished_work(path: Path) -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    assert not marks.search(path.read_text())


def test_the_changelog_knows_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## {re.escape(exitkit.__version__)}\b", text, re.MULTILINE)
    assert importlib.metadata.version("exitkit") == exitkit.__version__


def test_the_torch_free_table_of_methods_equals_the_code() -> None:
    import inspect

    from exitkit.objectives.build import OBJECTIVES

    assert set(names.METHODS) == set(OBJECTIVES)
    for name, method in names.METHODS.items():
        code = OBJECTIVES[name]
        options = {
            k: p.default for k, p in inspect.signature(code).parameters.items() if k != "blueprint"
        }
        assert method.options == options, name
        assert method.teaches == code.teaches, name


def test_the_torch_free_table_of_networks_equals_the_code() -> None:
    import torch

    from exitkit.models.build import build

    for name, network in names.NETWORKS.items():
        for heads in names.HEADS:
            with torch.device("meta"):
                built = build(name, classes=3, heads=heads, width=0.25)
            assert built.deepest == network.exits
