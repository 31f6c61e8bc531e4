"""One batch through one stage: rows of several requests joined, run, judged, and parted again."""

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.engine import Engine, Floats, Rows, gather
from exitkit.policy.policy import State, compact, join
from exitkit.serve.scheduling.queues import Batch, Part
from exitkit.serve.scheduling.requests import Seen

# Where fewer than this share of a batch's rows go on, they are copied out at once, so that the
# others' features are not kept. Where more do, the copy is saved: they are gathered when they run.
SPARSE = 0.5


@dataclass(eq=False, slots=True)
class Block:
    """What a stage left of one batch, for the parts that wait behind it.

    Attributes:
        hidden: features, where the backend keeps them.
        state: of the policy, of the same rows.
        exit: whose answers these are; 0 for images that no stage has seen.
        logits: [n, C] of the same rows, and
        probability: [n] of their own answers; None for images that no stage has seen.
    """

    hidden: Rows
    state: State
    exit: int = 0
    logits: Floats | None = None
    probability: Floats | None = None


@dataclass(eq=False, slots=True)
class Ran:
    """What a stage said of a batch's rows, in the order of its parts.

    Attributes:
        exit: number of its exit.
        logits: [n, C].
        probability: [n] of each row's own answer, calibrated.
        leave: [n] whether the policy lets the row leave here.
        left: how many do.
        block: of the rows that stay; None where all leave.
        places: [n] of the rows that stay, in the block; None where each has its own number.
    """

    exit: int
    logits: Floats
    probability: Floats
    leave: NDArray[np.bool_]
    left: int
    block: Block | None = None
    places: NDArray[np.int64] | None = None


# After a segment the caches are cold, and every call of NumPy costs ten times what it does in a
# loop of its own: below, a batch that is one part makes no more of them than the engine does.
# (A frozen record is dear too.)


def run(engine: Engine, batch: Batch) -> Ran:
    """Run a batch through its stage. What it returns does not depend on who shares the batch.

    Raises:
        Exception: whatever the segment, the policy or joining the rows raises.
    """
    segment = engine.segments[batch.stage]
    hidden, state = _joined(batch.parts)
    logits, output = segment.run(hidden)
    leave, probability, state = engine.policy.step(batch.stage, logits, state)
    n, left = len(leave), int(np.count_nonzero(leave))
    if left == n:
        return Ran(segment.exit, logits, probability, leave, left)
    assert output is not None  # only the deepest has none, and there all rows leave
    if n - left >= SPARSE * n:
        block = Block(output, state, segment.exit, logits, probability)
        return Ran(segment.exit, logits, probability, leave, left, block)
    stay = np.flatnonzero(~leave)
    block = Block(
        output.take(stay, axis=0), compact(state, stay), segment.exit, logits[stay],
        probability[stay],
    )  # fmt: skip
    places = np.cumsum(~leave) - 1
    return Ran(segment.exit, logits, probability, leave, left, block, places)


def deliver(batch: Batch, ran: Ran, now: float) -> list[Part]:
    """Give the rows that leave their answers; return the parts of the others, for the next stage.

    Requests that are over get nothing and go no further.
    """
    alone = len(batch.parts) == 1
    stays: list[Part] = []
    start = 0
    for part in batch.parts:
        rows = slice(start, start + len(part))
        start = rows.stop
        request = part.request
        if request.over:
            continue
        leave, logits, probability = ran.leave, ran.logits, ran.probability
        if not alone:
            leave, logits, probability = leave[rows], logits[rows], probability[rows]
        if request.observe is not None:
            seconds = now - part.arrived
            request.show(Seen(ran.exit, part.samples, logits, probability, leave, seconds))
        left = ran.left if alone else int(np.count_nonzero(leave))
        if left == len(part):
            request.put(part.samples, ran.exit, logits, probability)
            continue
        part.block, part.places = ran.block, None
        if left or not alone:
            places = np.arange(rows.start, rows.stop) if ran.places is None else ran.places[rows]
            part.places = places
            if left:
                stay = ~leave
                request.put(part.samples[leave], ran.exit, logits[leave], probability[leave])
                part.samples, part.places = part.samples[stay], places[stay]
        stays.append(part)
    return stays


def _joined(parts: list[Part]) -> tuple[Rows, State]:
    """Return the features and states of all parts, one after the other."""
    if len(parts) == 1 and parts[0].places is None:
        return parts[0].block.hidden, parts[0].block.state
    pieces: list[tuple[Block, NDArray[np.int64] | None]] = []
    for block, group in groupby(parts, key=lambda part: part.block):
        pieces.append((block, _places(list(group), len(block.hidden))))
    states = [
        block.state if places is None else compact(block.state, places) for block, places in pieces
    ]
    return gather([(block.hidden, places) for block, places in pieces]), join(states)


def _places(parts: list[Part], rows: int) -> NDArray[np.int64] | None:
    """Return where some parts' rows lie in their block of `rows`; None where they are all of it."""
    if len(parts) == 1 and parts[0].places is None:
        return None
    places = np.concatenate([part.places for part in parts])
    whole = len(places) == rows and (places == np.arange(rows)).all()
    return None if whole else places
