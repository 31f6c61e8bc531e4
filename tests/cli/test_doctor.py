import pytest

from exitkit.cli import checkup
from exitkit.cli.checkup import Absent, Part

from .conftest import Exitkit


def attempt(error: Exception | None) -> checkup.Check:
    def work() -> str:
        if error is not None:
            raise error
        return "did it"

    return checkup._try(Part("thing", "serve", work, "pip install thing"))


def test_a_part_that_works_needs_no_mending() -> None:
    assert attempt(None) == checkup.Check("thing", "serve", "works", "did it", "")


@pytest.mark.parametrize(
    ("error", "state", "found", "mend"),
    [
        (ModuleNotFoundError("x", name="thing"), "missing", "no module thing", "pip install thing"),
        (Absent("built without it"), "missing", "built without it", "pip install thing"),
        (Absent(checkup.NO_GPU), "missing", checkup.NO_GPU, ""),
        (ImportError("lib.so\nmore"), "broken", "ImportError: lib.so", "pip install thing"),
    ],
)
def test_a_part_that_does_not_work_says_why_and_how(
    error: Exception, state: str, found: str, mend: str
) -> None:
    assert attempt(error) == checkup.Check("thing", "serve", state, found, mend)


def test_what_the_tests_stand_on_works(exitkit: Exitkit) -> None:
    said = exitkit("doctor", "--json")
    assert said.code == 0
    state = {check["part"]: check["state"] for check in said.table["checks"]}
    for part in ("PyTorch", "torchvision", "digits", "ONNX", "ONNX Runtime", "server", "timm"):
        assert state[part] == "works", said.out
    assert "broken" not in state.values(), said.out


def test_every_mend_is_one_line_for_people(exitkit: Exitkit) -> None:
    checks = [attempt(None), attempt(Absent("not here"))]
    words = checkup.outcome(checks).words
    assert "to mend or add:\n  thing (serve):  pip install thing" in words
