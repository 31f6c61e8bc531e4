"""A network with the ImageNet stem, and heads of a paper, from training to a bundle."""

from collections.abc import Callable
from pathlib import Path

import exitkit
from exitkit.bundle import read_manifest
from exitkit.export import package
from exitkit.train import session


def test_it_leaves_where_it_left_in_training(
    tmp_path: Path, write_digits: Callable[..., Path]
) -> None:
    folder = write_digits(tmp_path / "digits", train=40)
    run = session.train(
        name="large",
        root=tmp_path / "runs",
        method="ecsd",
        heads="paper",
        arch="resnet18",
        stem="imagenet",
        width=0.125,
        data=str(folder),
        tune_share=0.4,
        image_size=75,
        epochs=1,
        batch_size=24,
        precision="float32",
        device="cpu",
        threads=1,
    )
    card = run.read_card()
    assert (card.stem, card.heads) == ("imagenet", "ecsd")
    report = package.export(run, exits=(1, 2, 4), root=tmp_path / "bundles")
    manifest = read_manifest(report.folder)
    assert [s.input_shape for s in manifest.segments] == [(3, 75, 75), (8, 19, 19), (16, 10, 10)]
    assert report.parity.images == 48
    pictures = sorted((folder / "test").rglob("*.png"))
    found = exitkit.load(report.folder, threads=1).predict(pictures)
    assert len(found) == len(pictures) > 0
    assert {one.exit for one in found} <= {1, 2, 4}
