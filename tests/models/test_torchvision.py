"""With the ImageNet stem, our networks are torchvision's: equal weights give equal answers."""

import pytest
import torch
import torchvision

from exitkit.models.build import build


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d", "densenet121"])
def test_equal_weights_give_equal_answers(arch: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(arch, num_classes=7)
    images = torch.randn(4, 3, 75, 75)
    theirs.train()(images)  # statistics that are not those of a fresh network
    ours = build(arch, 7, 75, exits=(4,), stem="imagenet")
    # Both hold their layers in the order in which they run, a block's shortcut last.
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: theirs for (name, _), theirs in pairs})
    with torch.no_grad():
        found = ours.eval()(images)[-1].logits
        torch.testing.assert_close(found, theirs.eval()(images), rtol=1e-4, atol=1e-5)
        found = ours.train()(images)[-1].logits
        torch.testing.assert_close(found, theirs.train()(images), rtol=1e-4, atol=1e-5)
    for own, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(own, other)
