"""Networks from elsewhere on ONNX Runtime: segment by segment, and a whole run that is served."""

from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
import timm
import torch
import torchvision
from torch import nn

import exitkit
from exitkit.export import onnx, package, segments
from exitkit.models.wrap import wrap
from exitkit.runs import Run
from exitkit.serve import server
from exitkit.train import evaluate, session
from tests.models import foreign

AT = ("layers.0", "layers.1")


def convnext() -> nn.Module:
    return timm.create_model("convnext_atto", depths=(1,) * 4, dims=(8, 12, 16, 24), num_classes=5)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([2, 2], 8, [1, 1], [1, 2], [4, 4], num_classes=5)


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5)


def timm_vit() -> nn.Module:
    options = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2}
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **options)


CASES = {
    convnext: (("stages.0", "stages.2"), 36),  # 9 pixels, then 1: halved, then pooled
    swin: (("features.1",), 32),
    vit: (("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"), 32),
    timm_vit: (("blocks.0",), 32),
    foreign.Convolutional: (("blocks.0", "blocks.1"), 40),  # 20, 10 and 5 pixels
    foreign.Last: (("one",), 32),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_segments_of_any_batch_answer_as_the_model(case: Callable[[], nn.Module], tmp_path: Path):
    at, size = CASES[case]
    torch.manual_seed(0)
    network = wrap(case(), at, image_size=size).eval()
    pieces = segments.cut(network, network.exits)
    shapes = segments.input_shapes(pieces, size, size)
    images = torch.randn(3, 3, size, size)
    with torch.no_grad():
        wanted = [answer.logits.numpy() for answer in network(images)]
    hidden = images.numpy()
    for piece, shape, logits in zip(pieces, shapes, wanted, strict=True):
        assert hidden.shape[1:] == shape
        file = onnx.write(piece, shape, tmp_path / f"{piece.exit}.onnx")
        run = onnxruntime.InferenceSession(file.path, providers=["CPUExecutionProvider"])
        found, *rest = run.run(None, {"hidden": hidden})
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
        hidden = rest[0] if rest else None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, digit_folder: Path) -> Run:
    return session.train(
        name="tokens",
        root=tmp_path_factory.mktemp("runs"),
        method="deep",
        arch="python:tests.models.foreign:transformer",
        at=AT,
        data=str(digit_folder),
        tune_share=0.3,
        image_size=32,
        epochs=1,
        batch_size=12,
        precision="float32",
        device="cpu",
        threads=1,
    )


def test_a_transformer_is_exported_and_served_with_exits(
    run: Run, tmp_path: Path, digit_folder: Path
) -> None:
    report = package.export(run, root=tmp_path)
    assert not report.parity.failures
    assert [segment.input_shape for segment in report.manifest.segments] == [
        (3, 32, 32), (17, 24), (17, 24)
    ]  # fmt: skip
    files = sorted((digit_folder / "test").glob("*/*.png"))[:4]
    network, _ = evaluate.trained(run)
    spec = run.read_card().image
    pixels = np.stack([exitkit.images.decode(file, spec) for file in files])
    with torch.no_grad():
        deepest = network(torch.from_numpy(exitkit.images.normalise(pixels, spec)))[-1].logits
    labels = [report.manifest.classes[k] for k in deepest.argmax(1)]
    # sure at no exit before the last
    model = exitkit.load(report.folder, threshold=1.0, threads=1)
    assert [(one.exit, one.label) for one in model.predict(files)] == [(3, k) for k in labels]
    parts = [("file", (file.name, file.read_bytes())) for file in files]
    with server(report.folder, threshold=0.0, threads=1) as url:
        answers = httpx.post(f"{url}/predict", files=parts).json()
    assert [one["exit"] for one in answers] == [1, 1, 1, 1]


def test_two_exits_of_three_make_one_segment_of_two_stages(run: Run, tmp_path: Path) -> None:
    report = package.export(run, exits=(2, 3), root=tmp_path)
    assert [segment.exit for segment in report.manifest.segments] == [2, 3]
