"""Thresholds that sink under load: which there are, when they are in force, and what that gains."""

import numpy as np
import pytest

from exitkit.errors import ConfigError
from exitkit.policy.solvers import Point
from exitkit.serve import adaptive
from exitkit.serve.adaptive import HOLD_S, START, STEPS, Depth, Rung
from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.simulate import Load, Outcome, draw, poisson, simulate
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.tradeoff import Tradeoff

BATCH, QUEUE = 32, 512
# Three stages of 1, 2 and 3 million multiply-adds.
CPU = Stages([[(0.05 + part * b) / 1e3 for b in range(1, BATCH + 1)] for part in (1, 2, 3)])
GPU = Stages([[(5.0 + 0.03 * b) / 1e3 for b in range(1, BATCH + 1)]] * 3)
MACS = (1e6, 3e6, 6e6)


def point(threshold: float) -> Point:
    """Lie on a sweep where everybody leaves at once at 0, and half of a half goes on at 1."""
    first = 1 - 0.75 * threshold
    shares = (first, (1 - first) / 2, (1 - first) / 2)
    macs = float(np.dot(shares, MACS))
    return Point(threshold, 0.8 + 0.15 * threshold, macs, shares, (None,) * 3, 0.95)


def tradeoff(threshold: float = 0.9, exact: bool = True) -> Tradeoff:
    own = point(threshold) if exact else None
    points = tuple(map(point, np.linspace(0, 1, 41).tolist()))
    return Tradeoff((1, 2, 3), (1, 3, 6), 6, points, None, (threshold,) * 2, own, exact)


def ladder(table: Tradeoff, stages: Stages, floor: float) -> tuple[Rung, ...]:
    return adaptive.ladder(adaptive.keeping(table, floor), table.thresholds, stages)


def test_the_ladder_goes_down_to_the_floor_in_even_steps() -> None:
    rungs = ladder(tradeoff(), CPU, floor=0.83)
    assert rungs[0].thresholds == (0.9, 0.9)
    assert rungs[-1].thresholds == pytest.approx((0.2, 0.2))  # accuracy 0.8 + 0.15 * 0.2
    assert min(rung.accuracy for rung in rungs) >= 0.83
    assert len(rungs) == STEPS + 1
    assert (np.diff([rung.mean_macs for rung in rungs]) < 0).all()
    gaps = -np.diff([rung.seconds for rung in rungs])
    assert gaps.max() < 2.1 * gaps.min()


def test_an_images_time_is_that_of_the_stages_it_reaches() -> None:
    (own, *_) = ladder(tradeoff(1.0), CPU, floor=0.9)
    full = [(0.05 + part * BATCH) / BATCH / 1e3 for part in (1, 2, 3)]
    assert own.seconds == pytest.approx(full[0] + 0.75 * full[1] + 0.375 * full[2])


def test_points_below_the_floor_are_never_taken_whatever_their_threshold() -> None:
    table = tradeoff()
    dip = Point(0.5, 0.7, point(0.5).mean_macs, point(0.5).shares, (None,) * 3, 0.95)
    points = tuple(dip if p.threshold == 0.5 else p for p in table.points)
    rungs = ladder(Tradeoff(**{**vars(table), "points": points}), CPU, floor=0.83)
    assert (0.5, 0.5) not in [rung.thresholds for rung in rungs]
    assert rungs[-1].thresholds == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize(
    ("table", "floor", "found"),
    [
        (tradeoff(), 0.95, r"floor 0.95: the policy in force reaches 0.9350 on the tune split"),
        (tradeoff(0.0), 0.8, "nothing on the sweep costs less than the policy in force"),
        (tradeoff(exact=False), 0.8, "are not on the bundle's sweep"),
    ],
)
def test_a_floor_that_means_nothing_is_refused(table: Tradeoff, floor: float, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        adaptive.keeping(table, floor)


def test_the_first_line_says_how_far_thresholds_may_sink() -> None:
    assert adaptive.describe(ladder(tradeoff(), CPU, floor=0.83), plain_macs=6e6) == (
        "under load down to threshold 0.2: accuracy 83.00 %, 25.4 % of the plain network's "
        "multiply-adds (computed on the tune split)"
    )


def rungs(count: int = 5) -> list[Rung]:
    return [Rung((1 - k / 10,), 0.9 - k / 100, 10.0 - k, 0.010 - 0.001 * k) for k in range(count)]


def test_thresholds_sink_with_the_work_that_waits() -> None:
    depth = Depth(rungs(), queue=10_000)  # so that half a second of work is the end
    assert depth.choose(0.0).thresholds == (1.0,)
    depth.enter(25)
    assert depth.choose(1.0).thresholds == (1.0,)  # 0.25 s is half of the end
    levels = []
    for second in range(2, 20):
        depth.enter(1, depth.choose(float(second)))
        levels.append(depth.level)
    assert levels == sorted(levels)
    assert set(levels) == {0, 1, 2}
    depth.enter(100)
    assert depth.choose(50.0).thresholds == rungs()[-1].thresholds


def test_a_small_queue_is_not_filled_before_thresholds_sink() -> None:
    depth = Depth(rungs(), queue=16)
    depth.enter(8)  # half of the queue, though only 0.08 s
    assert depth.choose(0.0).thresholds == rungs()[-1].thresholds


def test_thresholds_come_back_step_by_step_when_the_pressure_is_gone() -> None:
    depth = Depth(rungs(), queue=10_000)
    work = depth.enter(1000)
    depth.choose(10.0)
    assert depth.level == 4
    depth.leave(work)
    seen = []
    for k in range(1, 12):
        depth.choose(10.0 + k * 0.51 * HOLD_S)
        seen.append(depth.level)
    assert seen == [4, 3, 3, 2, 2, 1, 1, 0, 0, 0, 0]
    work = depth.enter(1000)
    depth.choose(20.0)
    depth.leave(work)
    assert depth.choose(30.0).thresholds == (1.0,)  # nobody asked for ten seconds


def test_a_wait_between_two_steps_keeps_the_one_that_it_has() -> None:
    depth = Depth(rungs(), queue=10_000)
    step_s = 0.5 * (1 - START) / 4
    depth.enter(round((0.5 * START + 2.1 * step_s) / 0.010))
    depth.choose(0.0)
    assert depth.level == 2
    work = depth.enter(round(0.8 * step_s / 0.010))  # nearly at the next
    for k in range(1, 20):
        depth.choose(float(k))
        assert depth.level == 2
    depth.leave(work + 0.8 * step_s)  # as much below
    for k in range(20, 40):
        depth.choose(float(k))
        assert depth.level == 2


def test_a_machine_that_became_slow_has_longer_waits() -> None:
    depth = Depth(rungs(), queue=10_000)
    depth.enter(12)
    assert depth.wait_s == pytest.approx(0.12)
    for _ in range(100):
        depth.ran(0.1, 0.4)
    assert depth.wait_s == pytest.approx(0.48)
    assert depth.choose(0.0).thresholds == rungs()[3].thresholds


BEFORE, DURING, AFTER = 600, 3000, 6000


def step_load(stages: Stages, factor: float, depth: bool) -> Outcome:
    """Simulate 70 % of what the policy can do, then so many times that, then 70 % again."""
    table = ladder(tradeoff(), stages, floor=0.83)
    most, begins, arrivals = 1 / table[0].seconds, 0.0, []
    for seed, (rate, count) in enumerate([(0.7, BEFORE), (factor, DURING), (0.7, AFTER)]):
        arrivals.append(begins + poisson(rate * most, count, seed))
        begins = arrivals[-1][-1]
    points = {p.threshold: p for p in tradeoff().points} | {0.9: point(0.9)}
    requests = BEFORE + DURING + AFTER
    exits = [draw(points[r.thresholds[0]].shares, requests, 1, seed=9) for r in table]
    load = Load(np.stack(exits) if depth else exits[0], np.concatenate(arrivals))
    patience = 10 * stages.whole(BATCH)
    chosen = Depth(table, QUEUE) if depth else None
    return simulate(stages, rules.full_first, load, QUEUE, patience, depth=chosen)


@pytest.mark.parametrize("stages", [CPU, GPU], ids=["cpu", "gpu"])
def test_overload_is_answered_earlier_before_anything_is_refused(stages: Stages) -> None:
    fixed, ours = (step_load(stages, 1.4, depth) for depth in (False, True))
    assert fixed.refused > 0.1 * DURING
    assert ours.refused == 0
    assert np.nanquantile(ours.latency_s, 0.99) < np.nanquantile(fixed.latency_s, 0.99)


@pytest.mark.parametrize("stages", [CPU, GPU], ids=["cpu", "gpu"])
def test_thresholds_settle_under_load_and_come_back_after_it(stages: Stages) -> None:
    level = step_load(stages, 1.3, depth=True).level
    assert (level[:BEFORE] == 0).mean() > 0.98  # nothing changes below what the policy can do
    settled = level[BEFORE + DURING // 2 : BEFORE + DURING]
    assert 0 < np.median(settled) < STEPS
    assert np.ptp(settled) <= 3
    # A swing would go through all of them, again and again.
    assert np.abs(np.diff(settled)).sum() < 0.02 * len(settled)
    assert (level[-AFTER // 3 :] == 0).all()


def test_beyond_the_lowest_threshold_the_rest_is_refused() -> None:
    out = step_load(CPU, 4.0, depth=True)
    assert out.refused > 0
    assert out.level.max() == len(ladder(tradeoff(), CPU, 0.83)) - 1
    first_refused = int(np.flatnonzero(out.level < 0)[0])
    assert out.level[first_refused - 1] == out.level.max()  # the last step had been taken
