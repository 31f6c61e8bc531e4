import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from exitkit.errors import ConfigError
from exitkit.models import sources
from exitkit.models.build import build
from exitkit.models.wrap import named

from . import foreign

AT = ("layer1", "layer3")


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current folder, which is not where the program lies."""
    (tmp_path / "of_a_stranger.py").write_text(
        "from torch import nn\n"
        "def small():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 6, 2, 2),\n"
        "        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))\n"
        "def nothing():\n"
        "    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield "of_a_stranger"
    sys.modules.pop("of_a_stranger", None)


@pytest.mark.parametrize("arch", ["torchvision:resnet18", "timm:resnet18"])
def test_a_network_by_name_is_drawn_from_the_generator(arch: str) -> None:
    built = []
    for exits in ((1, 2, 3), (3,)):
        torch.manual_seed(3)
        built.append(build(arch, 5, 32, exits=exits, at=AT))
    whole, plain = (network.state_dict() for network in built)
    assert plain.keys() < whole.keys()
    assert all(torch.equal(whole[name], tensor) for name, tensor in plain.items())
    assert built[0].eval()(torch.zeros(1, 3, 32, 32))[-1].logits.shape == (1, 5)


def test_a_transformer_for_images_of_any_size_is_built_for_one() -> None:
    network = build("timm:test_vit", 5, 160, at=("blocks.0",)).eval()
    outputs = network(torch.zeros(2, 3, 160, 160))
    assert [answer.logits.shape for answer in outputs] == [(2, 5)] * 2


@pytest.mark.parametrize(
    ("arch", "size", "place"),
    [
        ("torchvision:squeezenet1_1", 64, "features.5"),  # ends in a convolution and a ReLU
        ("timm:levit_128s", 224, "stages.0"),  # has two last layers
        ("timm:eva02_tiny_patch14_224", 224, "blocks.3"),  # has none
    ],
)
def test_libraries_build_for_the_classes_what_no_new_last_layer_could(
    arch: str, size: int, place: str
) -> None:
    network = build(arch, 3, size, at=(place,)).eval()
    outputs = network(torch.zeros(2, 3, size, size))
    assert [answer.logits.shape for answer in outputs] == [(2, 3)] * 2


def test_a_function_in_the_current_folder_is_found(own_module: str) -> None:
    path = list(sys.path)
    network = build(f"python:{own_module}:small", 5, 32, at=("0",))
    assert network.deepest == 2
    assert sys.path == path


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("torchvision:resnet8", "torchvision has none of that name; did you mean resnet"),
        ("timm:vit_tny_patch16_224", "timm has none of that name; did you mean vit_tiny_patch16"),
        ("timm:resnet18.a1", r"no such timm network; did you mean .resnet18\.a"),
        ("python:of_a_stranger", "write python:package.module:function"),
        ("python:of_a_stranger:nobody", r"cannot be imported \(module 'of_a_stranger' has no"),
        ("python:of_nobody:small", r"cannot be imported \(No module named 'of_nobody'\)"),
        ("python:of_a_stranger:nothing", r"nothing\(\) returned a int; return the nn.Module"),
    ],
)
def test_names_of_nothing_are_refused(own_module: str, arch: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sources.make(arch)


@pytest.mark.parametrize("arch", ["torchvision:resnet8", "timm:resnt18", "timm:resnet18.a1"])
def test_a_look_at_nothing_is_refused(arch: str) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        sources.look(arch)


def test_published_weights_of_a_users_own_network_are_unknown() -> None:
    with pytest.raises(ConfigError, match="exitkit knows of none"):
        sources.make("python:module:function", fetched=True)


def test_published_weights_with_another_forward_are_refused() -> None:
    with pytest.raises(ConfigError, match="other forward code"):
        sources.make("torchvision:googlenet", fetched=True)


def test_weights_that_cannot_be_fetched_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", offline)
    with pytest.raises(ConfigError, match=r"published weights of torchvision:resnet18.*could not"):
        sources.make("torchvision:resnet18", fetched=True)


def test_normalisation_is_what_the_weights_were_taught_with() -> None:
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert sources.look("torchvision:resnet18") == imagenet
    assert sources.look("timm:vit_tiny_patch16_224") == ((0.5,) * 3, (0.5,) * 3)
    assert sources.look("python:module:function") is None


def saved(folder: Path, classes: int, kind: str) -> tuple[nn.Module, Path]:
    torch.manual_seed(5)
    model = torchvision.models.resnet18(num_classes=classes)
    path = folder / f"weights.{kind}"
    if kind == "safetensors":
        save_file(model.state_dict(), path)
    else:
        table = model.state_dict()
        torch.save({"epoch": 3, "state_dict": table} if kind == "tar" else table, path)
    return model.eval(), path


@pytest.mark.parametrize("kind", ["safetensors", "pth", "tar"])
def test_a_file_of_weights_makes_the_network_answer_as_its_maker(tmp_path: Path, kind: str) -> None:
    model, path = saved(tmp_path, 5, kind)
    network = named("torchvision:resnet18", AT, 5, 32, (1, 2, 3), weights=str(path)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(images)[-1].logits, model(images))


def test_a_file_for_other_classes_loses_its_classifier_only(tmp_path: Path) -> None:
    model, path = saved(tmp_path, 9, "pth")
    network = named("torchvision:resnet18", AT, 5, 32, (3,), weights=str(path)).eval()
    images = torch.randn(2, 3, 32, 32)
    model.fc = nn.Identity()
    with torch.no_grad():
        answer = network(images)[-1]
        assert torch.equal(answer.embedding, model(images))
    assert answer.logits.shape == (2, 5)
    with pytest.raises(ConfigError, match="its weights tell 9 classes apart"):
        named("torchvision:resnet18", AT, 5, 32, (3,), weights=str(path), keep=True)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    _, path = saved(tmp_path, 5, "pth")
    with pytest.raises(ConfigError, match=r"another model's \(Missing key.*layer1\.2"):
        named("torchvision:resnet34", AT, 5, 32, (3,), weights=str(path))
    torch.save({"a": 1}, path)
    with pytest.raises(ConfigError, match="is no table of tensors"):
        sources.read_weights(path)
    torch.save(foreign.Convolutional(), path)  # would run code when it is unpickled
    with pytest.raises(ConfigError, match=r"cannot be read \(Weights only load failed"):
        sources.read_weights(path)
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ConfigError, match="cannot be read"):
            sources.read_weights(tmp_path / name)
    with pytest.raises(ConfigError, match="cannot be read"):
        sources.read_weights(tmp_path / "missing.pth")
