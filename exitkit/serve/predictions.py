"""Image files to short answers: what /predict gives, without HTTP."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from exitkit.errors import RequestError
from exitkit.serve.options import Options
from exitkit.serve.scheduling.requests import DeadlineExceeded, Result, Seen
from exitkit.serve.scheduling.scheduler import clock
from exitkit.serve.service import Service

Row = dict[str, Any]  # Any: whatever JSON can hold
Observe = Callable[[Row], None]


async def answer(
    service: Service,
    files: Sequence[bytes | RequestError],
    options: Options,
    top: int,
    arrived: float,
    observe: Observe | None = None,
) -> list[Row | RequestError]:
    """Answer image files, each failing alone.

    Args:
        service: the model that answers.
        files: of one request; an error takes the place of what could not be read as a file.
        options: its wishes.
        top: how many of the best classes every answer is to name.
        arrived: second of `clock` from which times and the deadline count.
        observe: told what every exit says of every image, on the event loop.

    Returns:
        an answer or an error for every file, in order.

    Raises:
        RequestError: other than one threshold or one for each file, or more classes than there are.
        Overloaded: too many images wait.
        DeadlineExceeded: no exit had answered any image in time.
        EngineError: the engine failed.
    """
    options.require(len(files))
    if top > len(service.manifest.classes):
        raise RequestError(
            f"top {top}", f"there are {len(service.manifest.classes)} classes", "ask for fewer"
        )
    found: list[Row | RequestError | None] = [
        file if isinstance(file, RequestError) else None for file in files
    ]
    whole = [file for file in files if isinstance(file, bytes)]
    decoded = await service.decode(whole, options.due(arrived), whole=False)
    failures = iter(decoded.failures)
    found = [next(failures) if row is None else row for row in found]
    good = [place for place, row in enumerate(found) if row is None]
    if good:

        def show(seen: Seen) -> None:
            if observe is not None:
                for row in _seen(service, seen, good, arrived):
                    observe(row)

        watch = None if observe is None else show
        result = await service.answer(decoded.inputs, options.of(good), watch, arrived, whole=False)
        for place, row in zip(good, _rows(service, result, top, arrived), strict=True):
            found[place] = row
    return [row for row in found if row is not None]


def _rows(service: Service, result: Result, top: int, arrived: float) -> list[Row | RequestError]:
    answers = result.answers
    times = {
        "queue_ms": round(result.queue_s * 1e3, 3),
        "compute_ms": round(result.compute_s * 1e3, 3),
        "ms": round((clock() - arrived) * 1e3, 3),
    }
    best = _best(service, result, top) if top else None
    rows: list[Row | RequestError] = []
    for k, (label, confidence, exit_) in enumerate(
        zip(
            answers.label.tolist(), answers.probability.tolist(), answers.exit.tolist(), strict=True
        )
    ):
        if exit_ == 0:
            rows.append(DeadlineExceeded())
            continue
        row = {
            "label": service.manifest.classes[label],
            "confidence": confidence,
            "exit": exit_,
            "compute": service.shares[exit_],
            **times,
            "deadline_hit": k in result.late,
            "threshold_used": result.threshold(k),
        }
        rows.append(row if best is None else {**row, "top": best[k]})
    return rows


def _best(service: Service, result: Result, top: int) -> list[list[Row]]:
    """Return the likeliest classes of each image, the likeliest first."""
    table = service.probabilities(result)
    order = np.argsort(-table, axis=1, kind="stable")[:, :top]
    classes = service.manifest.classes
    return [
        [{"label": classes[c], "probability": float(row[c])} for c in best.tolist()]
        for row, best in zip(table, order, strict=True)
    ]


def _seen(service: Service, seen: Seen, places: Sequence[int], arrived: float) -> list[Row]:
    ms = round((clock() - arrived) * 1e3, 3)
    columns = (seen.images, seen.logits.argmax(axis=1), seen.probability, seen.final)
    return [
        {
            "image": places[image],
            "exit": seen.exit,
            "label": service.manifest.classes[label],
            "confidence": confidence,
            "compute": service.shares[seen.exit],
            "ms": ms,
            "final": final,
        }
        for image, label, confidence, final in zip(*(c.tolist() for c in columns), strict=True)
    ]
