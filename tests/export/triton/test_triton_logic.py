"""Variant B: model.py, run as the Python backend runs it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import Server, TritonError
from tiny_export import Tiny

from exitkit.policy import criteria


@pytest.fixture(scope="module")
def loaded(repository: Path) -> Server:
    return Server(repository)


@pytest.fixture
def server(loaded: Server) -> Iterator[Server]:
    loaded.calls.clear()
    before = dict(loaded.counts)
    yield loaded
    loaded.broken.clear()
    loaded.counts.update({key: before[key] - loaded.counts[key] for key in before})


def taken(server: Server) -> dict[int, float]:
    """Images per exit so far."""
    return {
        int(dict(label.split("=") for label in key[1:])["exit"]): number
        for key, number in server.counts.items()
    }


def same(answer: Any, wanted: Any) -> None:
    """A client's answer is the engine's."""
    assert not isinstance(answer, TritonError), answer.message()
    assert answer["exit"][:, 0].tolist() == wanted.exit.tolist()
    np.testing.assert_allclose(answer["confidence"][:, 0], wanted.probability, rtol=1e-5)
    assert answer["probabilities"].argmax(axis=1).tolist() == wanted.label.tolist()
    np.testing.assert_array_equal(answer["probabilities"].max(axis=1), answer["confidence"][:, 0])


def test_requests_of_any_size_get_the_answers_of_the_engine(tiny: Tiny, server: Server) -> None:
    """Their own thresholds, or the settings' where they bring none; in one batch."""
    draw = np.random.default_rng(1)
    sizes = (3, 1, 8, 12)
    ends = np.cumsum(sizes)
    asked, wanted = [], []
    for place, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        one = {"images": tiny.images[end - size : end]}
        own = None
        if place % 2:
            own = one["thresholds"] = draw.choice(np.float32([0, 0.4, 0.9, 1]), (size, 2))
        asked.append(one)
        wanted.append(tiny.engine.answer(one["images"], thresholds=own))
    assert {int(k) for answer in wanted for k in answer.exit} == {1, 2, 3}
    for answer, expected in zip(server.infer("tiny_bls", asked), wanted, strict=True):
        same(answer, expected)


def test_rows_that_are_done_run_no_further(tiny: Tiny, server: Server) -> None:
    server.infer("tiny_bls", [{"images": tiny.images[:10]}, {"images": tiny.images[10:]}])
    exits = tiny.engine.answer(tiny.images).exit
    assert server.calls == [
        ("tiny_stage1", 24),
        ("tiny_stage2", int((exits > 1).sum())),
        ("tiny_stage3", int((exits > 2).sum())),
    ]
    assert 24 > server.calls[1][1] > server.calls[2][1] > 0


def test_deeper_stages_are_not_called_when_all_have_left(tiny: Tiny, server: Server) -> None:
    asked = {"images": tiny.images, "thresholds": np.zeros((24, 2), np.float32)}
    (answer,) = server.infer("tiny_bls", [asked])
    assert answer["exit"].ravel().tolist() == [1] * 24
    assert server.calls == [("tiny_stage1", 24)]


def test_counters_count_images_by_exit(tiny: Tiny, server: Server) -> None:
    before = taken(server)
    assert set(before) == {1, 2, 3}
    server.infer("tiny_bls", [{"images": tiny.images[:7]}, {"images": tiny.images[7:]}])
    exits = tiny.engine.answer(tiny.images).exit
    assert {k: taken(server)[k] - before[k] for k in before} == {
        k: int((exits == k).sum()) for k in before
    }
    (name,) = {key[0] for key in server.counts}
    assert name == "exitkit_exits_taken_total"
    assert all({"model=tiny_bls", "version=1"} < set(key) for key in server.counts)


def test_a_row_on_its_threshold_leaves(tiny: Tiny, server: Server) -> None:
    (low,) = server.infer("tiny_bls", [{"images": tiny.images[:1], "thresholds": _rows([0, 0])}])
    on = low["confidence"][0, 0]
    above = np.nextafter(on, np.float32(2))
    for first, exit in ((on, 1), (above, 3)):
        asked = {"images": tiny.images[:1], "thresholds": _rows([first, 1])}
        (answer,) = server.infer("tiny_bls", [asked])
        assert answer["exit"].tolist() == [[exit]]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
def test_its_arithmetic_is_the_policys_to_the_bit(server: Server, temperature: float) -> None:
    logits = np.random.default_rng(2).normal(0, 9, (400, 37)).astype(np.float32)
    judge = type(server.logic["tiny_bls"]).execute.__globals__["judge"]
    confidence, probabilities = judge(logits, temperature)
    np.testing.assert_array_equal(confidence, criteria.max_probability(logits, temperature))
    np.testing.assert_array_equal(probabilities, criteria.probabilities(logits, temperature))
    assert confidence.dtype == probabilities.dtype == np.float32


@pytest.mark.parametrize("wrong", [-0.1, 1.5, np.nan])
def test_a_threshold_that_is_none_fails_its_own_request(
    tiny: Tiny, server: Server, wrong: float
) -> None:
    good = {"images": tiny.images[:4]}
    bad = {"images": tiny.images[4:6], "thresholds": _rows([0.5, 0.5], [0.5, wrong])}
    first, error, last = server.infer("tiny_bls", [good, bad, good])
    assert error.code() == TritonError.INVALID_ARG
    assert error.message() == f"threshold {np.float32(wrong)} is no probability: give 0 to 1"
    for answer in (first, last):
        same(answer, tiny.engine.answer(good["images"]))
    assert server.calls[0] == ("tiny_stage1", 8)


@pytest.mark.parametrize("pixel", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_an_image_without_numbers_fails_its_own_request(
    tiny: Tiny, server: Server, pixel: float
) -> None:
    before = sum(taken(server).values())
    broken = tiny.images[4:6].copy()
    broken[1, 0, 3, 3] = pixel
    good = {"images": tiny.images[:4]}
    error, answer = server.infer("tiny_bls", [{"images": broken}, good])
    assert (error.code(), "finite" in error.message()) == (TritonError.INVALID_ARG, True)
    same(answer, tiny.engine.answer(good["images"]))
    assert sum(taken(server).values()) - before == 4


@pytest.mark.parametrize("key", ["threshold", "thresholds", "max_exit"])
def test_a_threshold_as_parameter_is_refused(tiny: Tiny, server: Server, key: str) -> None:
    """A response cache would answer it with what it computed for another one."""
    asked = {"images": tiny.images[:1], "parameters": {key: 0.5}}
    other = {"images": tiny.images[:1], "parameters": {"customer": "x"}}
    error, answer = server.infer("tiny_bls", [asked, other])
    assert error.message() == f"parameter {key!r} is not read: send the tensor 'thresholds'"
    same(answer, tiny.engine.answer(tiny.images[:1]))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_failing_stage_fails_the_requests_that_came_so_far(
    tiny: Tiny, server: Server, stage: int
) -> None:
    server.broken[f"tiny_stage{stage}"] = TritonError("out of memory", TritonError.UNAVAILABLE)
    asked = [{"images": tiny.images[k : k + 2], "thresholds": _rows(*[low] * 2)}
             for k, low in enumerate(([0, 0], [1, 0], [1, 1]))]  # fmt: skip
    answers = server.infer("tiny_bls", asked)
    for deepest, answer in enumerate(answers, 1):
        if deepest < stage:
            assert answer["exit"].ravel().tolist() == [deepest] * 2
        else:
            assert answer.message() == f"tiny_stage{stage}: out of memory"
            assert answer.code() == TritonError.UNAVAILABLE
    assert len(server.calls) == stage


def test_a_stage_that_is_not_loaded_is_an_error(tiny: Tiny, repository: Path) -> None:
    server = Server(repository)
    del server.sessions["tiny_stage1"]
    (error,) = server.infer("tiny_bls", [{"images": tiny.images[:2]}])
    assert "unknown model 'tiny_stage1'" in error.message()


def test_more_rows_than_a_stage_takes_go_in_several_calls(tiny: Tiny, tmp_path: Path) -> None:
    repository = tiny.write(tmp_path / "models", max_batch_size=5)
    config = repository / "tiny_bls" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 5", "max_batch_size: 32"))
    server = Server(repository)
    answers = server.infer("tiny_bls", [{"images": tiny.images[:20]}, {"images": tiny.images[20:]}])
    same(answers[0], tiny.engine.answer(tiny.images[:20]))
    same(answers[1], tiny.engine.answer(tiny.images[20:]))
    assert [rows for name, rows in server.calls if name == "tiny_stage1"] == [5, 5, 5, 5, 4]


def test_a_call_that_fails_spares_the_requests_of_other_calls(tiny: Tiny, tmp_path: Path) -> None:
    """And rows of a failed request in a call that worked run no further."""
    repository = tiny.write(tmp_path / "models", max_batch_size=5)
    config = repository / "tiny_bls" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 5", "max_batch_size: 32"))
    server = Server(repository)
    run, calls = server.run, iter(range(100))
    server.run = lambda request: (  # the second call of all
        type(run(request))(error=TritonError("lost")) if next(calls) == 1 else run(request)
    )
    never = np.ones((4, 2), np.float32)
    asked = [{"images": tiny.images[k : k + 4], "thresholds": never} for k in (0, 4, 8)]
    first, second, third = server.infer("tiny_bls", asked)  # rows 0-3, 4-7, 8-11
    same(first, tiny.engine.answer(tiny.images[:4], thresholds=(1, 1)))
    assert second.message() == third.message() == "tiny_stage1: lost"
    assert {rows for name, rows in server.calls if name == "tiny_stage2"} == {4}


def test_one_exit_answers_everything(static: Tiny, tmp_path: Path) -> None:
    server = Server(static.write(tmp_path / "models", "one"))
    (answer,) = server.infer("one_bls", [{"images": static.images}])
    same(answer, static.engine.answer(static.images))
    assert set(answer["exit"].ravel().tolist()) == {2}


def test_settings_that_do_not_fit_stop_the_model_from_loading(
    tiny: Tiny, repository: Path, tmp_path: Path
) -> None:
    edited = tmp_path / "models"
    shutil.copytree(repository, edited)
    config = edited / "tiny_bls" / "config.pbtxt"
    config.write_text(config.read_text().replace('string_value: "1,2,3"', 'string_value: "1,2"'))
    with pytest.raises(Exception, match="3 stages need 3 exits"):
        Server(edited)


def test_model_py_stands_alone(repository: Path) -> None:
    lines = (repository / "tiny_bls" / "1" / "model.py").read_text().splitlines()
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    assert {line.split()[1].split(".")[0] for line in imports} == {
        "json",
        "numpy",
        "triton_python_backend_utils",
        "typing",
    }


def _rows(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)
