"""A method says which fields of a batch it reads beside the images, and reads no others."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from objectives import tiny

from contracts import trial
from exitkit.objectives.functional import one_hot
from exitkit.records import Batch


def told(batch: Batch) -> Batch:
    """Say the labels as soft targets, as the loader does for mixed images."""
    return replace(batch, targets=one_hot(batch.labels, tiny.CLASSES))


def relabelled(batch: Batch) -> Batch:
    return replace(told(batch), labels=(batch.labels + 1) % tiny.CLASSES)


def moved(batch: Batch) -> Batch:
    return replace(told(batch), index=batch.index.flip(0) + 1)


def repartnered(batch: Batch) -> Batch:
    assert batch.partners is not None
    return replace(told(batch), partners=-batch.partners)


def losses(text: str, change: Callable[[Batch], Batch]) -> list[float]:
    subject = trial.make(text)
    batches = trial.steps(subject.objective.views)
    # Rows are told otherwise in the last step only, which meets the images of the first again.
    seen = [(told(batch), clock) for batch, clock in batches]
    if change is moved:
        seen[-1] = (moved(batches[-1][0]), batches[-1][1])
    else:
        seen = [(change(batch), clock) for batch, clock in batches]
    return [result.total.item() for result in subject.take(seen)]


@pytest.mark.parametrize("field", ["labels", "index", "partners"])
@pytest.mark.parametrize("text", trial.EVERY)
def test_what_is_not_declared_is_not_read(text: str, field: str) -> None:
    change = {"labels": relabelled, "index": moved, "partners": repartnered}[field]
    same = losses(text, change) == losses(text, told)
    assert same != (field in trial.make(text).objective.reads)


@pytest.mark.parametrize("text", trial.EVERY)
def test_labels_as_soft_targets_teach_the_same(text: str) -> None:
    assert losses(text, told) == losses(text, lambda batch: batch)
