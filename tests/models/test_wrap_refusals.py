"""What cannot be cut is refused, with the places that can."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.models import places
from exitkit.models.wrap import wrap

from . import foreign


def refused(model: nn.Module, at: tuple[str, ...], size: int = 32, **options: int) -> str:
    with pytest.raises(ConfigError) as caught:
        wrap(model, at, image_size=size, **options)
    return str(caught.value)


def resnet() -> nn.Module:
    return torchvision.models.resnet18(num_classes=5)


def test_no_place_names_all() -> None:
    said = refused(resnet(), ())
    assert "no place is named (--at); choose from: layer1.0, layer1, layer2.0, layer2" in said


def test_an_unknown_place_names_the_nearest() -> None:
    assert "has no such module; did you mean 'layer2'?" in refused(resnet(), ("layer1", "layr2"))


def test_a_place_inside_a_residual_block() -> None:
    said = refused(resnet(), ("layer1.0.conv1",))
    assert "after layer1.0.conv1: 2 values are needed behind it" in said
    assert "choose from: layer1.0, layer1, layer2.0" in said


def test_the_end_is_an_exit_already() -> None:
    assert "after layer4: only the classifier follows" in refused(resnet(), ("layer4",))


def test_the_order_of_running_counts() -> None:
    assert "give layer1,layer2" in refused(resnet(), ("layer2", "layer1"))
    assert "or one twice; give layer1" in refused(resnet(), ("layer1", "layer1"))


def test_a_module_that_runs_twice() -> None:
    assert "after act: it runs 3 times" in refused(foreign.Convolutional(), ("act",))


def test_places_of_models_of_every_kind() -> None:
    assert places.every(foreign.Transformer(), 32) == [
        "layers.0", "layers.1", "layers"
    ]  # fmt: skip
    assert places.every(foreign.Convolutional(), 32) == ["blocks.0", "blocks.1"]
    row = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    row.append(nn.Linear(4 * 28 * 28, 5))
    assert places.every(row, 32) == ["0", "1"]


class Deciding(foreign.Convolutional):
    """Looks at its values between the blocks."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.blocks[0](self.stem(images))
        if hidden.mean() > 1e9:
            hidden = -hidden
        return self.fc(self.blocks[2](self.blocks[1](hidden)).mean((2, 3)))


class Auxiliary(foreign.Convolutional):
    """Gives more in training."""

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        hidden = self.blocks[0](self.stem(images))
        answer = self.fc(self.blocks[2](self.blocks[1](hidden)).mean((2, 3)))
        return (answer, hidden.mean()) if self.training else answer


class Moody(foreign.Convolutional):
    """Answers with what no image explains."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.rand(1)


class Telling(foreign.Convolutional):
    """Answers with a table."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(images)}


class Pairs(nn.Module):
    """A block that gives two tensors."""

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return hidden, hidden + 1


class Forked(foreign.Convolutional):
    def __init__(self) -> None:
        super().__init__()
        self.fork = Pairs()

    def forward(self, images: Tensor) -> Tensor:
        one, two = self.fork(self.blocks[0](self.stem(images)))
        return self.fc(self.blocks[2](self.blocks[1](one + two)).mean((2, 3)))


class TokensFirst(foreign.Transformer):
    """Keeps the images on the second axis, as torch's own layers do where nobody asks."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).permute(2, 0, 1)
        return self.head(self.layers(tokens).mean(0))


@pytest.mark.parametrize(
    ("kind", "at", "message"),
    [
        (Deciding, "blocks.0", "decides by values that exist only when it runs"),
        (Auxiliary, "blocks.0", "goes another way in training than in evaluation"),
        (Moody, "blocks.0", "depends on something beside the images"),
        (Telling, "blocks.0", r"answers two images with a dict, not with logits \[2, C\]"),
        (Forked, "fork", "it does not give one tensor with the images on its first axis; choose"),
        (TokensFirst, "layers.0", "it does not give one tensor with the images on its first axis"),
        (foreign.Convolutional, "blocks", "does not call that module by itself"),
    ],
)
def test_models_that_cannot_be_cut_there(kind: type[nn.Module], at: str, message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match=message):
        wrap(kind(), (at,), image_size=32)


def test_vectors_are_no_place() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 8), nn.ReLU(), nn.Linear(8, 8))
    model.append(nn.Linear(8, 5))
    assert "gives (8,) per image, neither a map (D, h, w) nor tokens" in refused(model, ("1",))


def test_an_end_that_is_no_linear_layer_cannot_be_replaced() -> None:
    model = torchvision.models.squeezenet1_1(num_classes=5)
    said = refused(model, ("features.5",), 64, classes=7)
    assert "its end is no linear layer that could be replaced; build it for that many" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "layer1,layer2"}, r"at='layer1,layer2': is no list.*at=\['layer1', 'layer2'\]"),
        ({"exits": (3,)}, "exits 3: ResNet has exits 1, 2; name each"),
        ({"exits": (0, 2)}, "exits 0, 2: ResNet has exits 1, 2; name each"),
        ({"exits": (1,)}, "exit 2, the network's own end, is missing"),
        ({"first": 3}, "a branch from stage 3: ResNet has stages 1 to 2"),
        ({"classes": 0}, "0 classes: nothing to tell apart"),
    ],
)
def test_arguments_that_do_not_fit(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrap(**{"model": resnet(), "at": ("layer1",), "image_size": 32, **options})
