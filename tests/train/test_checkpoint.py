import pickle
import random

import numpy as np
import pytest
import torch
from torch import nn

from exitkit.errors import CheckpointError
from exitkit.runs import Run
from exitkit.train import checkpoint


class Harmful:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_what_was_saved_comes_back_bit_for_bit_and_in_its_memory_format(tmp_path):
    path = tmp_path / "checkpoint.pt"
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    checkpoint.save(path, {"network": {"w": weight}, "epoch": 3, "best": None})
    state = checkpoint.load(path)
    assert torch.equal(state["network"]["w"], weight)
    assert state["network"]["w"].stride() == weight.stride()
    assert (state["epoch"], state["best"], state["schema"]) == (3, None, 1)


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "code", "schema"])
def test_a_damaged_checkpoint_is_refused_with_its_path(tmp_path, damage):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"network": {"w": torch.zeros(100)}})
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:700])
    elif damage == "text":
        path.write_text("no checkpoint")
    elif damage == "code":
        path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    else:
        torch.save({"schema": 99}, path)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: .*train it again"):
        checkpoint.load(path)


def test_network_file_is_plain_float32(tmp_path):
    path = tmp_path / "network.pt"
    weights = {
        "w": torch.randn(4, 3, 2, 2).to(torch.bfloat16).to(memory_format=torch.channels_last),
        "count": torch.tensor(7),
    }
    checkpoint.save_network(path, weights)
    read = checkpoint.load_network(path)
    assert (read["w"].dtype, read["count"].dtype) == (torch.float32, torch.int64)
    assert read["w"].is_contiguous()
    assert torch.equal(read["w"], weights["w"].float())


def test_digest_sees_weights_not_their_layout():
    weights = {"b": torch.arange(24.0).reshape(1, 4, 3, 2), "a": torch.tensor(1)}
    digest = checkpoint.network_digest(weights)
    turned = {"a": weights["a"], "b": weights["b"].to(memory_format=torch.channels_last)}
    assert checkpoint.network_digest(turned) == digest
    assert len(digest) == 64
    changed = {**weights, "b": weights["b"].clone()}
    changed["b"][0, 3, 2, 1] = torch.nextafter(torch.tensor(23.0), torch.tensor(24.0))
    renamed = {"a": weights["a"], "c": weights["b"]}
    reshaped = {**weights, "b": weights["b"].reshape(1, 4, 2, 3)}
    others = [checkpoint.network_digest(table) for table in (changed, renamed, reshaped)]
    assert len({digest, *others}) == 4


def test_every_generator_goes_on_where_it_was(tmp_path):
    def draw():
        return (
            torch.rand(3).tolist(),
            torch.randn(3).tolist(),
            random.random(),
            random.gauss(0, 1),
            np.random.rand(2).tolist(),
            np.random.randn(),
        )

    checkpoint.seed_generators(5)
    draw()
    checkpoint.save(tmp_path / "c.pt", {"generators": checkpoint.generators()})
    expected = draw()
    draw()
    checkpoint.restore_generators(checkpoint.load(tmp_path / "c.pt")["generators"])
    assert draw() == expected
    checkpoint.seed_generators(6)
    assert draw() != expected


def test_a_network_of_another_shape_names_the_file(tmp_path):
    with pytest.raises(RuntimeError) as error:
        nn.Linear(2, 2).load_state_dict({})
    assert "x.pt: does not fit" in str(checkpoint.mismatch(tmp_path / "x.pt", error.value))


def test_half_written_files_are_swept(tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    left = run.folder / ".checkpoint.pt.x81_.pt"
    for path in (left, run.checkpoint, run.network):
        path.write_text("x")
    checkpoint.sweep(run)
    assert sorted(p.name for p in run.folder.iterdir()) == ["checkpoint.pt", "network.pt"]


def test_a_damaged_config_is_refused(tmp_path):
    run = Run(tmp_path)
    for text in ("{", "[]", '{"epocks": 3}'):
        run.config.write_text(text)
        with pytest.raises(Exception, match=r"config\.json"):
            checkpoint.read_config(run)
