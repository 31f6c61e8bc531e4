"""A skipped test fails continuous integration unless its reason is in the tracked list."""

import importlib.util
from pathlib import Path

SKIPS = Path(__file__).parents[1] / "skips.py"
spec = importlib.util.spec_from_file_location("skips", SKIPS)
assert spec is not None
assert spec.loader is not None
skips = importlib.util.module_from_spec(spec)
spec.loader.exec_module(skips)

LOG = """
SKIPPED [1] tests/a.py:3: needs a GPU
SKIPPED [2] tests/b.py:9: the moon is full
3 passed, 3 skipped
"""


def test_only_listed_reasons_pass() -> None:
    assert skips.refused(LOG, ["# a remark", "needs a GPU"]) == [
        "SKIPPED [2] tests/b.py:9: the moon is full"
    ]
    assert skips.refused(LOG, ["GPU", "moon"]) == []
