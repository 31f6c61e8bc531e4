"""Real segments under the scheduler: whatever shares a batch, answers are the engine's own."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from staged import Log, flat, images, send
from staged import engine as make_staged

from exitkit import bundle
from exitkit.engine import ort
from exitkit.engine.bound import BoundSegment
from exitkit.engine.engine import Engine
from exitkit.policy.policy import Policy
from exitkit.serve.scheduling.batches import Block, deliver, run
from exitkit.serve.scheduling.queues import Batch, Part
from exitkit.serve.scheduling.requests import Request
from exitkit.serve.scheduling.scheduler import Scheduler
from exitkit.serve.scheduling.stages import Stages

REQUESTS = 60


def load(folder: Path, kind: str) -> Engine:
    """Load a bundle whose features lie in arrays, or where ONNX Runtime keeps them."""
    manifest, policy = bundle.read_manifest(folder), Policy.read(folder / bundle.POLICY)
    if kind == "array":
        return Engine(ort.load(folder, manifest, threads=1), policy)
    segments = [
        BoundSegment(
            onnxruntime.InferenceSession(str(folder / piece.file)), piece.exit, piece.input_shape,
            len(manifest.classes), "cuda", 1, "cpu",
        )
        for piece in manifest.segments
    ]  # fmt: skip
    return Engine(segments, policy)


@pytest.mark.parametrize("kind", ["array", "device"])
def test_answers_do_not_depend_on_who_shares_a_batch(colours: Path, kind: str) -> None:
    engine = load(colours, kind)
    batches: list[int] = []
    stages = Stages([[1.0] * 8] * 2)  # seconds, so that nothing is overdue in this test
    scheduler = Scheduler(engine, stages, 1000, lambda k, n, s: batches.append(n))
    random = np.random.default_rng(0)
    asked = []
    for _ in range(REQUESTS):
        n = int(random.integers(1, 12))
        images = random.normal(0, 1, (n, 3, 32, 32)).astype(np.float32)
        images += random.normal(0, 1, (n, 3, 1, 1)).astype(np.float32)
        thresholds = random.uniform(0.3, 1.0, (n, 1)).astype(np.float32)
        asked.append((images, thresholds, random.choice([2, 4], n, p=[0.2, 0.8])))
    futures = [scheduler.submit(*one) for one in asked]
    scheduler.start()
    for one, future in zip(asked, futures, strict=True):
        found, alone = future.result(60).answers, engine.answer(*one)
        np.testing.assert_array_equal(found.exit, alone.exit)
        np.testing.assert_array_equal(found.label, alone.label)
        np.testing.assert_allclose(found.logits, alone.logits, atol=1e-4)
        np.testing.assert_allclose(found.probability, alone.probability, atol=1e-5)
    assert scheduler.close(10)
    taken = np.concatenate([future.result().answers.exit for future in futures])
    assert set(taken) == {2, 4}
    # All full (from 85 % on) but what is left at the end: rows of both stages, and the
    # survivors of the first one's.
    assert sorted(batches)[3] >= 7


@pytest.mark.parametrize(("rebatch", "found"), [(True, [[3, 7]]), (False, [[3], [7]])])
def test_what_two_batches_leave_goes_on_together_unless_told_otherwise(
    log: Log, rebatch: bool, found: list[list[int]]
) -> None:
    scheduler = Scheduler(make_staged(log), flat(batch=4), 100, rebatch=rebatch)
    futures = [send(scheduler, name, kind=int(name in (3, 7))) for name in range(8)]
    log.open.set()
    scheduler.start()
    assert [future.result(20).answers.exit.item() for future in futures] == [1, 1, 1, 2] * 2
    assert scheduler.close(10)
    assert log.at(1) == found


@pytest.mark.parametrize(
    ("stay", "found"), [([0, 1, 2, 3], [3, 0, 1, 2]), ([2, 3], [3, 2]), ([4], [4])]
)
def test_parts_of_one_block_keep_their_rows_in_any_order(
    log: Log, stay: list[int], found: list[int]
) -> None:
    log.open.set()
    staged = make_staged(log)
    asked = images(*range(6))
    asked[stay, 1] = 2
    block = Block(asked, staged.policy.start(6))
    parts = [
        Part(Request(3, 0.0, None), np.arange(3), np.arange(3 * k, 3 * k + 3), 0.0, block=block)
        for k in (0, 1)
    ]
    stays = deliver(Batch(0, parts), run(staged, Batch(0, parts)), 0.0)
    assert sum(map(len, stays)) == len(stay)
    run(staged, Batch(1, stays[::-1]))
    assert log.at(1) == [found]
