"""Rules that choose which stage runs next, and how many of its rows.

`full_first` serves. `deepest` and `shallowest` are what it is compared with in
benchmarks/simulate.py. A rule sees the queues and the time; it is asked only while rows wait.
"""

from exitkit.serve.scheduling.queues import NEVER, Queues

# Rows per second of a batch, over those of the best batch. A stage is crowded from the first share
# on; while one is, only batches that reach the second are run. Batches of one reach it on
# processors, where time grows with the rows; on GPUs it takes most of the largest batch.
CROWDED, FULL = 0.95, 0.85


def full_first(queues: Queues, now: float) -> tuple[int, int]:
    """Choose the deepest stage; while one is crowded, the deepest whose batch is full.

    While the machine has time to spare, rows go through as fast as they can. Once they pile up
    at some stage, only full batches run, which is all that the machine can give: what is not
    full then waits for company, but what is overdue goes first. No share of images that leave
    has to be known or guessed.

    The first stage goes first where its front row would otherwise miss its deadline without any
    answer. Its batch is as large as that deadline allows, but for a batch that is full anyway.
    """
    stages, rows = queues.stages, queues.rows
    deep = full = late = -1
    crowded = False
    for k in range(stages.count):
        if rows[k]:
            deep = k
            use = stages.use(k, min(rows[k], stages.batch))
            crowded |= use >= CROWDED
            if use >= FULL:
                full = k
            if k and queues.overdue(k, now):
                late = k
    if late >= 0:
        return late, min(rows[late], stages.batch)
    chosen = full if crowded else deep
    room = min(rows[chosen], stages.batch)
    first = queues.front(0)
    if first is not None and first.deadline < NEVER:
        left = first.deadline - now
        if chosen == 0 or left < stages.seconds(chosen, room) + stages.seconds(0, 1):
            return 0, _in_time(queues, left, crowded)
    return chosen, room


def _in_time(queues: Queues, left: float, crowded: bool) -> int:
    """Return how many rows of the first stage run when `left` seconds are left for the front."""
    stages, waiting = queues.stages, min(queues.rows[0], queues.stages.batch)
    fits = min(waiting, stages.within(0, left))
    # Small batches in a crowd would make everybody behind late, and the next front again.
    return waiting if fits == 0 or (crowded and stages.use(0, fits) < FULL) else fits


def deepest(queues: Queues, now: float) -> tuple[int, int]:
    """Choose the deepest stage where anything waits, with all that fits."""
    rows = queues.rows
    return max(k for k in range(len(rows)) if rows[k]), queues.stages.batch


def shallowest(queues: Queues, now: float) -> tuple[int, int]:
    """Choose the shallowest stage where anything waits, with all that fits."""
    rows = queues.rows
    return min(k for k in range(len(rows)) if rows[k]), queues.stages.batch
