"""FFSD trains students, a fusion and decoders beside its leader; only the leader leaves the run."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from exitkit.export import package
from exitkit.models import build
from exitkit.runs import Run
from exitkit.train import session


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, write_digits: Callable[..., Path]) -> Run:
    return session.train(
        name="leader",
        root=tmp_path_factory.mktemp("runs"),
        method="ffsd",
        arch="resnet20",
        width=0.25,
        data=str(write_digits(tmp_path_factory.mktemp("data") / "digits", train=24)),
        tune_share=0.4,
        epochs=1,
        batch_size=16,
        precision="float32",
        device="cpu",
        threads=1,
    )


def test_only_the_leader_is_shipped(run: Run, tmp_path: Path) -> None:
    state = torch.load(run.checkpoint, weights_only=True)["objective"]
    assert any("students" in name for name in state)  # they were trained
    assert any("decoder" in name for name in state)
    leader = build.rebuild(run.read_card())
    weights = torch.load(run.network, weights_only=True)
    assert weights.keys() == leader.state_dict().keys()

    made = package.export(run, what="leader", root=tmp_path)
    graph = onnx.load(made.folder / "segment_3.onnx").graph
    shipped = [weight.name for weight in graph.initializer]
    # Batch norms are folded into the weights and biases of the convolutions before them.
    numbers = sum(
        torch.Size(weight.dims).numel() for weight in graph.initializer if weight.data_type == 1
    )
    bare = sum(p.numel() for name, p in leader.named_parameters() if p.ndim > 1)
    biases = sum(p.numel() for name, p in leader.named_parameters() if name.endswith(".bias"))
    assert numbers == pytest.approx(bare + biases, abs=16)
    assert not [name for name in shipped if "student" in name or "fusion" in name]
    assert not [name for name in shipped if "decoder" in name]
