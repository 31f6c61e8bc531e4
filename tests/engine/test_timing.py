import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from exitkit import machine
from exitkit.engine import costs, ort, timing
from exitkit.engine.timing import Costs
from exitkit.errors import BundleError, ConfigError

HAND = Costs(
    network="n" * 64,
    exits=(1, 2, 4),
    pool="private",
    threads=1,
    batch_sizes=(1, 4, 8),
    segment_ms=((1.0, 4.0, 8.0), (2.0, 5.0, 9.0), (4.0, 10.0, 22.0)),
    all_segments_ms=(7.0, 19.0, 39.0),
    rounds=7,
    fingerprint=machine.fingerprint(),
    machine=machine.describe(),
)


def test_the_limit_by_hand() -> None:
    # Half leaves at exit 1, a quarter at exit 2: of 8 images 8, 4 and 2 run. The third
    # segment's time of 2 images lies on the line from 4 (1 image) to 10 (4 images): 6.
    assert timing.limit_ms(HAND, (0.5, 0.25, 0.25), 8) == pytest.approx(8.0 + 5.0 + 6.0)
    # Reach 1, 0.4, 0.2: of 8 images 8, round(3.2) = 3 and round(1.6) = 2.
    assert timing.limit_ms(HAND, (0.6, 0.2, 0.2), 8) == pytest.approx(8.0 + 4.0 + 6.0)
    # Of a single image on average 1, 0.5 and 0.25 run.
    assert timing.limit_ms(HAND, (0.5, 0.25, 0.25), 1) == pytest.approx(1.0 + 1.0 + 1.0)


def test_the_limit_at_the_ends() -> None:
    assert timing.limit_ms(HAND, (1.0, 0.0, 0.0), 8) == pytest.approx(8.0)
    assert timing.limit_ms(HAND, (0.0, 0.0, 1.0), 8) == pytest.approx(39.0)
    # 8 x 0.02 = 0.16 of an image reaches the last segment: that share of 4 ms.
    assert timing.limit_ms(HAND, (0.98, 0.0, 0.02), 8) == pytest.approx(8.0 + 0.32 + 0.64)


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="measured up to 8"):
        timing.limit_ms(HAND, (0.5, 0.25, 0.25), 16)
    for shares in ((0.5, 0.5), (0.5, 0.25, 0.5)):
        with pytest.raises(ConfigError, match="one share per exit"):
            timing.limit_ms(HAND, shares, 8)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    path = timing.path_of(tmp_path / "bundles" / "tiny")
    assert path == tmp_path / "bundles" / "tiny.costs.json"
    timing.write(path, HAND)
    assert timing.read(path) == HAND
    assert timing.read(path, network="n" * 64) == HAND


def test_tables_that_do_not_belong_here_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.costs.json"
    with pytest.raises(BundleError, match="run exitkit bench"):
        timing.read(path)
    timing.write(path, dataclasses.replace(HAND, fingerprint="0" * 12, machine={"cpu": "Z80"}))
    with pytest.raises(BundleError, match="000000000000: Z80; run exitkit bench here"):
        timing.read(path)
    timing.write(path, HAND)
    with pytest.raises(BundleError, match="those of network nnnnnnnnnnnn"):
        timing.read(path, network="m" * 64)
    timing.write(path, dataclasses.replace(HAND, schema="2.0"))
    with pytest.raises(BundleError, match=r"schema 2\.0"):
        timing.read(path)
    for text in ("", "[]", "{}", json.dumps({"schema": "1.0"})):
        path.write_text(text)
        with pytest.raises(BundleError, match="no table of costs"):
            timing.read(path)


def test_every_provider_has_a_table_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    assert timing.path_of(folder, "cuda") == tmp_path / "tiny.costs-cuda.json"
    device = dataclasses.replace(HAND, pool="cuda")
    assert (HAND.provider, device.provider) == ("cpu", "cuda")
    assert (HAND.computed, device.computed) == ("1 threads, private pool", "provider cuda")
    timing.write(timing.path_of(folder), HAND)
    timing.write(timing.path_of(folder, "cuda"), device)
    assert timing.read(timing.path_of(folder)) == HAND
    assert timing.read(timing.path_of(folder, "cuda"), provider="cuda") == device


def test_a_table_of_another_provider_is_refused(tmp_path: Path) -> None:
    path = timing.path_of(tmp_path / "tiny")
    for pool, read, asked in (("cuda", "cuda", "cpu"), ("shared", "cpu", "tensorrt")):
        timing.write(path, dataclasses.replace(HAND, pool=pool))
        timing.read(path, provider=read)
        with pytest.raises(BundleError, match=f"costs of provider {asked}: .*provider {read}; run"):
            timing.read(path, provider=asked)


def test_the_pools_of_threads_are_those_of_the_runtime() -> None:
    assert costs.THREAD_POOLS == ort.POOLS


def test_a_measurement_has_every_segment_at_every_batch_size(engine) -> None:
    found = timing.measure(engine, batch_sizes=(4, 1, 4), rounds=3)
    assert found.batch_sizes == (1, 4)
    assert found.exits == (1, 2, 3)
    assert np.array(found.segment_ms).shape == (3, 2)
    assert (np.array(found.segment_ms) > 0).all()
    assert len(found.all_segments_ms) == 2
    assert (found.pool, found.threads, found.rounds) == ("private", 1, 3)
    assert found.network == engine.policy.network
    assert found.fingerprint == machine.fingerprint()
    for sizes in ((), (0, 1)):
        with pytest.raises(ConfigError, match="give 1 or more"):
            timing.measure(engine, batch_sizes=sizes)


def test_pieces_take_turns() -> None:
    turns: list[str] = []
    pieces = {name: lambda name=name: turns.append(name) for name in "ab"}
    times = timing.interleave(pieces, rounds=3, least_ms=0.0)
    assert "".join(turns) == "aabb" + "ab" * 3  # a run and a look at its time, then the rounds
    assert {name: len(ms) for name, ms in times.items()} == {"a": 3, "b": 3}


def test_exiting_is_measured_with_the_shares_that_left(engine, images) -> None:
    measured = timing.exiting(engine, images, batch=5, rounds=2)
    assert (measured.batch, measured.images, measured.rounds) == (5, 60, 2)
    taken = engine.answer(images[:60]).exit
    assert measured.shares == tuple((taken == k).mean() for k in (1, 2, 3))
    assert measured.ms > 0
    thresholds = np.repeat([[0.0, 0.0], [1.0, 1.0]], 32, axis=0)
    assert timing.exiting(engine, images, 32, 1, thresholds).shares == (0.5, 0.0, 0.5)
    with pytest.raises(ConfigError, match="give a whole batch"):
        timing.exiting(engine, images, batch=65)
