"""Every method can go on with a pruned network: what it compares still has equal shapes."""

from functools import partial

import pytest
import torch

from exitkit.models import build
from exitkit.objectives import build as objectives
from exitkit.objectives import preflight
from exitkit.objectives.step import Step
from exitkit.records import Batch, Clock
from tests.prune.test_networks import SIDE, card, narrow, trained

CLASSES, IMAGES = 3, 6


def batch(seed: int, start: int, views: int) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    images = [torch.randn(IMAGES, 3, SIDE, SIDE, generator=draw) for _ in range(views + 1)]
    labels = torch.randint(0, CLASSES, (IMAGES,), generator=draw)
    return Batch(tuple(images[1:]), labels, torch.arange(start, start + IMAGES), None, images[0])


@pytest.mark.parametrize("method", objectives.OBJECTIVES)
def test_a_pruned_network_passes_the_preflight(method: str) -> None:
    torch.manual_seed(0)
    described = card("resnet20", width=1.0, exits=objectives.exits(method, 3))
    network, pruned = narrow(trained(described), described, 0.4)
    described = card("resnet20", width=1.0, exits=described.exits, pruned=pruned)
    another = partial(build.another, described)
    plan = build.blueprint(network, CLASSES, 2 * IMAGES, SIDE, another)
    assert plan.hidden == ((10, 32, 32), (20, 16, 16), (40, 8, 8))
    assert {feature for feature in plan.features} == {(40, 8, 8)}
    objective = objectives.build(method, plan)
    batches = [batch(1, 0, objective.views), batch(2, IMAGES, objective.views)]
    preflight.check(Step(network, objective), batches, Clock(0, 4, 0, 2))
