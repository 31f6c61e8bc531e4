"""Any load on any table of times: what the decisions promise, and what they gain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from staged import Log, engine, flat, images

from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.queues import NEVER
from exitkit.serve.scheduling.scheduler import Scheduler
from exitkit.serve.scheduling.simulate import Load, Outcome, draw, poisson, simulate
from exitkit.serve.scheduling.stages import Stages

RULES = (rules.full_first, rules.deepest, rules.shallowest)
SHARES = (0.5, 0.25, 0.15, 0.1)
BATCH = 64
GPU = Stages([[(0.5 + 0.003 * b) / 1e3 for b in range(1, BATCH + 1)]] * 4)
CPU = Stages([[(0.1 + 0.8 * b) / 1e3 for b in range(1, BATCH + 1)]] * 4)


@st.composite
def cases(draw, deadlines: bool) -> dict:
    count, batch = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    times = st.floats(0.1, 2.0)
    seconds = [[draw(times) * (1 + b * draw(st.floats(0, 1))) for b in range(batch)]] * count
    requests, images = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    exits = random.integers(0, count, (requests, images))
    gaps = random.exponential(draw(st.sampled_from([0.01, 0.5, 3.0])), requests)
    open_ = draw(st.booleans())
    load = Load(
        exits,
        np.cumsum(gaps) if open_ else None,
        0 if open_ else draw(st.integers(1, 6)),
        draw(st.sampled_from([0.5, 2.0, 10.0])) if deadlines else NEVER,
    )
    return {
        "stages": Stages(seconds),
        "load": load,
        "queue": images + draw(st.integers(0, 20)),
        "patience_s": draw(st.sampled_from([1.0, 20.0])),
    }


def longest(stages: Stages) -> float:
    return max(
        stages.seconds(k, b) for k in range(stages.count) for b in range(1, stages.batch + 1)
    )


@settings(max_examples=60, deadline=None)
@given(cases(deadlines=False), st.sampled_from(RULES))
def test_every_image_is_answered_once_at_its_own_exit(case: dict, rule) -> None:
    out, load = simulate(rule=rule, **case), case["load"]
    come = ~np.isnan(out.latency_s)
    assert come.sum() + out.refused == len(load.exits)
    np.testing.assert_array_equal(out.stage[come], load.exits[come])  # whoever shared its batches
    np.testing.assert_array_equal(out.stage[~come], -1)
    assert sum(rows for _, rows in out.batches) == (load.exits[come] + 1).sum()
    assert max(rows for _, rows in out.batches) <= case["stages"].batch


@settings(max_examples=60, deadline=None)
@given(cases(deadlines=True), st.sampled_from(RULES))
def test_queues_keep_their_bound_and_deadlines_are_kept_to_one_stage(case: dict, rule) -> None:
    out, load, stages = simulate(rule=rule, **case), case["load"], case["stages"]
    assert out.most <= case["queue"] + stages.batch
    come = ~np.isnan(out.latency_s)
    assert come.sum() + out.refused + out.failed == len(load.exits)
    assert (out.stage[come] >= 0).all()
    assert (out.stage[come] <= load.exits[come]).all()
    assert (out.latency_s[come] <= load.deadline_s + longest(stages) + 1e-9).all()
    np.testing.assert_array_equal(np.isnan(out.answered_s), out.stage < 0)
    assert (out.stage < 0).any(axis=1).sum() == out.refused + out.failed


@settings(max_examples=60, deadline=None)
@given(cases(deadlines=True))
def test_nobody_waits_for_ever(case: dict) -> None:
    out, stages = simulate(rule=rules.full_first, **case), case["stages"]
    # Overdue, and then everything that was there before, one row at a time.
    there = (case["queue"] + stages.batch) * stages.count
    assert out.waited_s <= case["patience_s"] + there * longest(stages)


def run(stages: Stages, rule, load: float, requests: int = 3000, **options) -> Outcome:
    """Simulate single images at so many times what the stages could do at best."""
    reach = 1 - np.cumsum([0.0, *SHARES[:-1]])
    most = BATCH / sum(r * stages.seconds(k, BATCH) for k, r in enumerate(reach))
    arrivals = poisson(load * most, requests, seed=1)
    work = Load(draw(SHARES, requests, 1, seed=0), arrivals)
    return simulate(stages, rule, work, 1024, 10 * stages.whole(BATCH), **options)


def rate(out: Outcome) -> float:
    return (len(out.latency_s) - out.refused) / out.end_s


def middle(out: Outcome, share: float) -> float:
    return float(np.nanquantile(out.latency_s, share))


def test_batches_that_cost_like_one_row_are_filled_under_load() -> None:
    merged = run(GPU, rules.deepest, 2.0, whole=True)
    ours = run(GPU, rules.full_first, 2.0)
    assert rate(ours) > 1.6 * rate(merged)
    deep = [rows for stage, rows in ours.batches[: len(ours.batches) // 2] if stage == 3]
    assert np.mean(deep) > 0.8 * BATCH


def test_rare_rows_behind_a_crowd_are_run_within_their_patience() -> None:
    exits = np.zeros((4000, 1), dtype=np.int64)
    exits[::800] = 3  # one row in 800 goes on
    arrivals = np.full(4000, 0.0) + np.arange(4000) * 5e-6  # more than the first stage can do
    patience = 2 * GPU.whole(BATCH)
    ours, shallow = (
        simulate(GPU, rule, Load(exits, arrivals), 5000, patience)
        for rule in (rules.full_first, rules.shallowest)
    )
    assert ours.waited_s <= patience + 2 * GPU.seconds(0, BATCH)
    assert shallow.waited_s > 5 * patience


@pytest.mark.parametrize("stages", [GPU, CPU])
def test_with_time_to_spare_nobody_waits_for_company(stages: Stages) -> None:
    ours, deepest, shallowest = (run(stages, rule, 0.2) for rule in RULES)
    for share in (0.5, 0.99):
        assert middle(ours, share) <= 1.05 * middle(deepest, share)
    assert middle(ours, 0.99) < middle(shallowest, 0.99)


def test_clients_that_wait_for_their_answers_come_back() -> None:
    out = simulate(CPU, rules.full_first, Load(np.full((50, 2), 3), clients=1), 10, 1.0)
    assert not np.isnan(out.latency_s).any()
    assert out.latency_s == pytest.approx(np.full(50, 4 * CPU.seconds(0, 2)))
    assert out.end_s == pytest.approx(out.busy_s)


def test_the_server_runs_the_batches_that_are_simulated(log: Log) -> None:
    stages = flat(seconds=1.0)  # so that nothing is overdue
    kinds = np.random.default_rng(0).integers(0, 3, (40, 3))
    scheduler = Scheduler(engine(log), stages, queue=200)
    for k, row in enumerate(kinds):
        asked = images(3 * k, 3 * k + 1, 3 * k + 2)
        asked[:, 1, 0, 0] = row
        scheduler.submit(asked)
    log.open.set()
    scheduler.start()
    assert scheduler.close(20)
    load = Load(kinds, arrivals=np.zeros(40))
    out = simulate(stages, rules.full_first, load, 200, patience_s=1e9)
    assert [(stage, len(names)) for stage, names in log.batches] == out.batches
