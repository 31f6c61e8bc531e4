"""What models have done, in the words of Triton's statistics extension.

A model's `inference_count` counts images, its `execution_count` the runs of its first stage, so
that their ratio is the mean batch. Its stages stand beside it as `name/stage2`, by the numbers of
their exits: each has the images and runs that it had itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from exitkit.serve.counts import SPANS
from exitkit.serve.models import VERSION
from exitkit.serve.tables import Table

Json = dict[str, Any]  # Any: whatever JSON can hold
CACHE = ("cache_hit", "cache_miss")  # there is none, but the extension wants them
Span = Sequence[float]


def of(name: str, table: Table) -> list[Json]:
    """Return the statistics of a model and of its stages.

    Args:
        name: of the model.
        table: what is counted of it, see `Counts`.
    """
    exits = table["exits"]
    answered = sum(cells["taken"] for cells in exits.values())
    first = min(exits, key=int)
    found = [_entry(name, answered, _runs(exits[first]), table["spans"])]
    for exit_ in sorted(exits, key=int):
        cells = exits[exit_]
        runs, seconds = _runs(cells), cells["run"][-1]
        spans = {
            "success": (runs, seconds), "queue": (runs, 0.0), "compute_input": (runs, 0.0),
            "compute_infer": (runs, seconds), "compute_output": (runs, 0.0),
        }  # fmt: skip
        found.append(_entry(f"{name}/stage{exit_}", cells["batch"][-1], runs, spans))
    return found


def _runs(cells: Table) -> float:
    """Return how often a stage ran; the last of a histogram's cells is the sum of its values."""
    return sum(cells["batch"][:-1])


def _entry(name: str, images: float, runs: float, spans: Mapping[str, Span]) -> Json:
    return {
        "name": name,
        "version": VERSION,
        "inference_count": int(images),
        "execution_count": int(runs),
        "inference_stats": {span: _span(spans.get(span, (0, 0.0))) for span in (*SPANS, *CACHE)},
    }


def _span(span: Span) -> Json:
    return {"count": int(span[0]), "ns": round(span[1] * 1e9)}
