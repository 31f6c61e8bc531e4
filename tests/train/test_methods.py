"""Every method learns real digits at every exit that it teaches."""

from pathlib import Path

import pytest

from exitkit import names, train
from exitkit.policy import metrics
from exitkit.train import evaluate

BAR = 0.70
# Short runs: the deepest exit learns in two epochs what the first needs four for.
EPOCHS = {"all": 4, "deepest": 2}


@pytest.mark.parametrize("method", names.METHODS)
def test_every_exit_taught_learns_digits(method: str, tmp_path: Path) -> None:
    teaches = names.METHODS[method].teaches
    settings = {"arch": "resnet18", "width": 0.25, "precision": "float32", "lr": 0.05}
    run = train(method=method, root=tmp_path, epochs=EPOCHS[teaches], **settings)
    found = {row["exit"]: row["top1"] for row in metrics.per_exit(evaluate.evaluate(run, "test"))}
    assert tuple(found) == ((1, 2, 3, 4) if teaches == "all" else (4,))
    assert min(found.values()) >= BAR, found
