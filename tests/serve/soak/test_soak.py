"""A minute of everything at once: no answer lost, none mixed up, no memory that grows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from soak import soak


@pytest.mark.slow
def test_a_minute_of_mixed_load_loses_and_mixes_no_answer(
    tmp_path: Path, bundle_at: Callable[[Path], Path]
) -> None:
    bundles = [bundle_at(tmp_path / name) for name in ("colours", "others")]
    report = soak(bundles, seconds=55)
    assert report.wrong == []
    assert report.ended == 0
    assert report.last == "stopped; everything accepted was answered"
    # Each kind of client came, so that the line above says something.
    kinds = ("file", "form", "base64", "tensors", "binary", "stream", "deadline", "gone", "slow")
    assert all(report.counted[kind] for kind in kinds), report.counted
    assert report.counted["loads"] >= 5
    assert report.counted["images"] > 1000
    # Ten minutes stay within 5 %; in one the heap has not yet settled.
    assert report.growth < 0.1, report.memory
