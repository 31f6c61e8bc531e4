"""The stand-in refuses what Triton would refuse; otherwise the tests beside it prove nothing."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import InferenceResponse, PreferredMemory, Server, Tensor, TritonError, Violation
from tiny_export import Tiny

HIDDEN = np.zeros((2, 4, 8, 8), np.float32)


@pytest.fixture(scope="module")
def server(repository: Path) -> Server:
    return Server(repository)


def call(
    server: Server,
    name: str = "hidden",
    array: np.ndarray = HIDDEN,
    stage: str = "tiny_stage2",
    outputs: Sequence[str] = ("logits",),
    more: Sequence[Tensor] = (),
) -> InferenceResponse:
    """Call the second stage, which takes float32 [1..32, 4, 8, 8]."""
    request = server.api.InferenceRequest(
        inputs=[Tensor(name, array), *more],
        requested_output_names=list(outputs),
        model_name=stage,
        preferred_memory=PreferredMemory(Server.CPU),
    )
    response: InferenceResponse = request.exec()
    return response


def test_a_call_that_keeps_to_the_configuration_is_answered(server: Server) -> None:
    response = call(server, outputs=["logits", "hidden_out"])
    assert not response.has_error()
    shapes = {tensor.name(): tensor.as_numpy().shape for tensor in response.output_tensors()}
    assert shapes == {"logits": (2, 5), "hidden_out": (2, 6, 4, 4)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "images"}, "has \\['hidden'\\]"),
        ({"array": np.zeros((2, 4, 8, 8))}, "is float64"),
        ({"array": np.zeros((2, 4, 8, 9), np.float32)}, "not \\(2, 4, 8, 8\\)"),
        ({"array": np.zeros((4, 8, 8), np.float32)}, "is \\(4, 8, 8\\)"),
        ({"array": np.zeros((33, 4, 8, 8), np.float32)}, "1 to 32 rows, not 33"),
        ({"array": np.zeros((0, 4, 8, 8), np.float32)}, "1 to 32 rows, not 0"),
        ({"outputs": ["logits", "exit"]}, "has no output {'exit'}"),
        ({"stage": "tiny_stage9"}, "unknown model"),
        ({"more": [Tensor("hidden", HIDDEN)]}, "not \\['hidden', 'hidden'\\]"),
    ],
)
def test_a_call_that_breaks_it_is_an_error(
    server: Server, changes: dict[str, Any], message: str
) -> None:
    before = len(server.calls)
    response = call(server, **changes)
    error = response.error()
    assert error is not None
    assert re.search(message, error.message())
    assert len(server.calls) == before


def test_answers_that_may_lie_on_a_gpu_are_refused(server: Server) -> None:
    request = server.api.InferenceRequest(
        inputs=[Tensor("hidden", HIDDEN)],
        requested_output_names=["logits"],
        model_name="tiny_stage2",
    )
    with pytest.raises(Violation, match="memory of a GPU"):
        request.exec()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"thresholds": np.zeros((2, 2), np.float32)}, "not \\['thresholds'\\]"),
        ({"images": np.zeros((2, 3, 8, 8))}, "images is float64"),
        (
            {
                "images": np.zeros((2, 3, 8, 8), np.float32),
                "thresholds": np.zeros((1, 2), np.float32),
            },
            "thresholds is \\(1, 2\\)",
        ),
        ({"images": np.zeros((33, 3, 8, 8), np.float32)}, "not 33"),
    ],
)
def test_a_client_is_held_to_the_configuration_too(
    server: Server, asked: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(Violation, match=message):
        server.infer("tiny_bls", [asked])


class Lazy:
    """Business logic that gives every request the same wrong answer."""

    def __init__(self, responses: list[InferenceResponse]) -> None:
        self.responses = responses

    def execute(self, requests: list[Any]) -> list[InferenceResponse]:
        return self.responses


def answer(**changes: np.ndarray) -> InferenceResponse:
    right = {
        "probabilities": np.zeros((1, 5), np.float32),
        "confidence": np.zeros((1, 1), np.float32),
        "exit": np.zeros((1, 1), np.int64),
    }
    return InferenceResponse([Tensor(k, v) for k, v in {**right, **changes}.items()])


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ([], "0 responses for 1 requests"),
        ([answer(exit=np.zeros((1, 1), np.int32))], "exit is int32"),
        ([answer(confidence=np.zeros(1, np.float32))], "confidence is \\(1,\\)"),
        ([answer(probabilities=np.zeros((2, 5), np.float32))], "not \\(1, 5\\)"),
        ([answer(label=np.zeros((1, 1), np.int64))], "'label'"),
        ([InferenceResponse()], "not \\[\\]"),
    ],
)
def test_business_logic_is_held_to_its_outputs(
    repository: Path, tiny: Tiny, responses: list[InferenceResponse], message: str
) -> None:
    server = Server(repository)
    server.logic["tiny_bls"] = Lazy([answer()])
    assert server.infer("tiny_bls", [{"images": tiny.images[:1]}])
    server.logic["tiny_bls"] = Lazy(responses)
    with pytest.raises(Violation, match=message):
        server.infer("tiny_bls", [{"images": tiny.images[:1]}])


def test_too_many_rows_never_come_together(server: Server, tiny: Tiny) -> None:
    with pytest.raises(Violation, match="40 rows came together"):
        server.infer("tiny_bls", [{"images": tiny.images[:20]}] * 2)


def test_errors_have_the_codes_of_the_backend() -> None:
    assert TritonError("x").code() == TritonError.INTERNAL
