"""What a request may wish for, whoever reads it."""

import numpy as np
import pytest

from exitkit.errors import RequestError
from exitkit.serve import options
from exitkit.serve.options import Options
from exitkit.serve.web import wishes

EXITS = (2, 4)


def test_texts_and_numbers_say_the_same() -> None:
    typed = options.parse({"threshold": 0.5, "max_exit": 2, "deadline_ms": 20}, EXITS)
    texts = options.parse({"threshold": "0.5", "max_exit": "2", "deadline_ms": "20"}, EXITS)
    assert typed == texts == Options(0.5, 2, 20.0)
    assert options.parse({"threshold": None}, EXITS) == Options()


def test_a_deadline_counts_from_the_arrival() -> None:
    assert Options(deadline_ms=250).due(10.0) == 10.25
    assert Options().due(10.0) is None


def test_thresholds_follow_their_images() -> None:
    wishes = Options(options.thresholds(["0.1", 0.2, 0.3]), 2)
    wishes.require(3)
    some = wishes.of([2, 0])
    np.testing.assert_allclose(some.threshold, [0.3, 0.1])
    assert some.max_exit == 2
    with pytest.raises(RequestError, match="3 thresholds: there are 2 images"):
        wishes.require(2)
    one = Options(0.5)
    one.require(7)
    assert one.of([0]) is one


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Options(1.5), r"threshold 1\.5: is no number from 0 to 1"),
        (lambda: Options(float("nan")), "threshold nan"),
        (lambda: Options(np.asarray([0.5, -1], np.float32)), "threshold -1: is no number"),
        (lambda: Options(np.asarray([np.nan], np.float32)), "threshold nan"),
        (lambda: Options(np.zeros((2, 2), np.float32)), r"thresholds: have shape \[2, 2\]"),
        (lambda: Options(deadline_ms=0), "deadline_ms 0: is no number of milliseconds above zero"),
        (lambda: Options(deadline_ms=float("inf")), "deadline_ms inf"),
        (lambda: options.parse({"deadline_ms": "soon"}, EXITS), "deadline_ms 'soon': is no"),
        (lambda: options.parse({"deadline_ms": True}, EXITS), "deadline_ms True: is no"),
        (lambda: options.parse({"max_exit": 2.5}, EXITS), r"max_exit 2\.5: no such exit"),
        (lambda: options.parse({"hurry": 1}, EXITS), "parameter 'hurry': no such parameter"),
        (lambda: options.thresholds([0.5, "x"]), "threshold 'x'"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(made, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        made()


@pytest.mark.parametrize("text", ["0_1", "٠", "０.５", "1_0e-1"])
def test_a_number_is_written_as_json_writes_it(text: str) -> None:
    """Python would read these."""
    assert 0 <= float(text) <= 1
    with pytest.raises(RequestError, match="is no number from 0 to 1"):
        options.parse({"threshold": text}, EXITS)
    with pytest.raises(RequestError, match="is no number of classes"):
        wishes.read([("top", "２")], {})
