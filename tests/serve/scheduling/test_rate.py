"""Images per second of work, and the waits that follow from it."""

import math

import pytest

from exitkit.serve.scheduling.rate import MEMORY_S, Rate


def test_a_steady_rate_is_found_whatever_the_batches() -> None:
    rate = Rate()
    for images in (1, 32, 7, 3):
        rate.add(images, images / 50)
    assert rate.per_second == pytest.approx(50)
    assert rate.wait_s(100) == pytest.approx(2)


def test_what_was_measured_before_fades_with_work() -> None:
    rate = Rate()
    rate.add(100, 1.0)
    rate.add(10, 1.0)
    kept = math.exp(-1 / MEMORY_S)
    assert rate.per_second == pytest.approx((100 * kept + 10) / (kept + 1))
    for _ in range(20):
        rate.add(10, 1.0)
    assert rate.per_second == pytest.approx(10, rel=1e-3)


def test_before_the_first_answer_nobody_can_tell() -> None:
    assert (Rate().per_second, Rate().wait_s(1000)) == (0.0, 1.0)
