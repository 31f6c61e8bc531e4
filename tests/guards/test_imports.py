"""Imports run one way (ARCHITECTURE.md), and the running half never imports torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import exitkit

ROOT = Path(exitkit.__file__).parent

# Each package may import the ones named here, itself, and the ground.
GROUND = {p.stem for p in ROOT.glob("*.py")} - {"__init__", "__main__", "records"} | {"names"}
ALLOWED = {
    "data": {"records"},
    "models": {"records"},
    "objectives": {"records", "models"},
    "policy": set(),
    "engine": {"policy"},
    "train": {"records", "objectives", "models", "data", "policy"},
    "export": {"records", "models", "data", "train", "policy", "engine", "objectives"},
    "serve": {"engine", "policy"},
    "report": {"engine", "policy"},
    "records": set(),
}
TORCHLESS = ("policy", "engine", "serve", "report")
# The one import against the arrows. A bundle holds no network that torch could run, so provider
# torch takes that of the run, which only the learning half can build. It happens inside a
# function, which is called when the provider is asked for by name.
EXCEPTION = (ROOT / "engine" / "backends.py", "exitkit.export", "torch_backend")


def imported(path: Path) -> set[str]:
    """First-level names inside exitkit that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "exitkit":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("exitkit.")}
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = [ROOT / f"{package}.py"] if package == "records" else (ROOT / package).rglob("*.py")
    for path in files:
        allowed = ALLOWED[package] | ({"export"} if path == EXCEPTION[0] else set())
        beyond = imported(path) - allowed - GROUND - {package, "__version__"}
        assert not beyond, f"{path} imports {beyond}"


def test_the_one_exception_is_a_single_import_that_waits_until_it_is_asked_for() -> None:
    path, module, name = EXCEPTION
    tree = ast.parse(path.read_text())
    found = [
        (node.module, [alias.name for alias in node.names])
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and "export" in node.module
    ]
    assert found == [(module, [name])]
    loaded = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert not [n for n in loaded if isinstance(n, ast.ImportFrom) and n.module == module]


@pytest.mark.parametrize("module", sorted(GROUND))
def test_the_ground_stands_on_itself(module: str) -> None:
    package, file = ROOT / module, ROOT / f"{module}.py"
    for path in package.rglob("*.py") if package.is_dir() else [file]:
        beyond = imported(path) - GROUND - {"__version__"}
        assert not beyond, f"{path} imports {beyond}"


@pytest.mark.parametrize("package", TORCHLESS)
def test_the_running_half_names_no_torch(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not any(name.split(".")[0] in ("torch", "torchvision") for name in names), path


def test_serving_leaves_torch_unloaded() -> None:
    modules = (
        "exitkit.serve.web.app, exitkit.engine.model, exitkit.report.page, exitkit.policy.solvers, "
        "exitkit.export.verify, exitkit.engine.backends"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_line_starts_light() -> None:
    heavy = ("torch", "numpy", "onnxruntime", "fastapi", "matplotlib", "sklearn", "PIL")
    code = f"import sys, exitkit.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
