"""Files of one request become images in turns, each failing alone."""

import numpy as np
import pytest
from bundles import picture

from exitkit import images
from exitkit.images import ImageSpec
from exitkit.serve.codec import Decoding
from exitkit.serve.scheduling.requests import DeadlineExceeded

SPEC = ImageSpec(8, 8, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
COLOURS = [(250, 3, 77), (0, 0, 0), (9, 200, 31)]


@pytest.fixture
def files() -> list[bytes]:
    """Return three images, and what is none as the second."""
    made = [picture(*colour, side=20) for colour in COLOURS]
    return [made[0], b"none", *made[1:]]


def expected(files: list[bytes]) -> np.ndarray:
    good = [images.decode(file, SPEC) for file in files if file != b"none"]
    return images.normalise(np.stack(good), SPEC)


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_turns_decode_what_evaluation_sees_to_the_bit(files: list[bytes], seconds: float) -> None:
    work, turns, decoded = Decoding(files, SPEC, 10_000), 0, None
    while decoded is None:
        decoded = work.turn(seconds)
        turns += 1
    assert turns == (1 if seconds else len(files))
    assert work.left == decoded.late == 0
    np.testing.assert_array_equal(decoded.inputs, expected(files))
    assert [failure is None for failure in decoded.failures] == [True, False, True, True]
    assert decoded.seconds > 0


def test_what_is_there_may_be_taken_between_turns(files: list[bytes]) -> None:
    work = Decoding(files, SPEC, 10_000)
    for count in range(len(files) + 1):
        decoded = work.finished()
        late = [isinstance(failure, DeadlineExceeded) for failure in decoded.failures]
        assert late == [k >= count for k in range(len(files))]
        assert decoded.late == len(files) - count
        np.testing.assert_array_equal(decoded.inputs, expected(files)[: len(decoded.inputs)])
        assert len(decoded.inputs) == (0, 1, 1, 2, 3)[count]
        work.turn(0.0)


def test_a_turn_does_nothing_for_what_is_over(files: list[bytes]) -> None:
    work = Decoding(files, SPEC, 10_000)
    work.over = True
    assert work.turn(60.0) is None
    assert work.left == len(files)
