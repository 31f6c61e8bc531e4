import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from exitkit.models import heads
from exitkit.models.exitnet import Head


@pytest.mark.parametrize(
    ("side", "target", "halvings", "pools"),
    [
        (32, 4, 3, False),
        (33, 5, 3, False),  # 17, 9, 5
        (4, 4, 0, False),
        (1, 1, 0, False),
        (12, 5, 1, True),  # 6, then pooled to 5
        (7, 5, 0, True),
    ],
)
def test_downsampling_reaches_the_deepest_shape(side, target, halvings, pools):
    body = heads.downsampling(8, side, 16, target)
    assert body(torch.zeros(2, 8, side, side)).shape == (2, 16, target, target)
    convs = [part for part in body if isinstance(part, nn.Conv2d)]
    assert [conv.stride for conv in convs] == [(2, 2)] * halvings + [(1, 1)] * (1 + (halvings == 0))
    assert [conv.groups for conv in convs[:-1]] == [8] * (len(convs) - 1)
    assert any(isinstance(part, nn.AdaptiveAvgPool2d) for part in body) == pools


def test_embedding_is_the_mean_of_the_feature_in_every_memory_format():
    head = Head(nn.Identity(), 8, 3)
    feature = torch.randn(4, 8, 5, 5, requires_grad=True)
    logits, same, embedding = head(feature)
    assert same is feature
    torch.testing.assert_close(embedding, feature.mean(dim=(2, 3)))
    torch.testing.assert_close(logits, head.classifier(embedding))
    (gradient,) = torch.autograd.grad(embedding.sum(), feature)
    torch.testing.assert_close(gradient, torch.full_like(feature, 1 / 25))
    torch.testing.assert_close(head(feature.to(memory_format=torch.channels_last))[0], logits)


class Logits(nn.Module):
    """What an exported segment computes of a head."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.head(hidden)[0]


def test_a_head_that_pools_adaptively_exports(tmp_path):
    torch.manual_seed(0)
    network = Logits(Head(heads.downsampling(8, 12, 16, 5), 16, 3)).eval()
    hidden = torch.randn(6, 8, 12, 12)
    path = tmp_path / "head.onnx"
    torch.onnx.export(
        network, (hidden,), path, dynamo=True, verbose=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for rows in (1, 6):
        (found,) = session.run(None, {name: hidden[:rows].numpy()})
        np.testing.assert_allclose(found, network(hidden[:rows]).detach(), rtol=1e-4, atol=1e-5)
