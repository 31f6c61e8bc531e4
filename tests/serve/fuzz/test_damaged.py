"""Damaged binary requests: each gets a clear refusal, none a 500, and the server stays."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from exitkit.serve import server

IMAGES = np.zeros((2, 3, 32, 32), dtype=np.float32)
SIZE = IMAGES.nbytes
PATH = "/v2/models/colours/infer"
ANY = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LENGTH = "Inference-Header-Content-Length"


def header(**changed: object) -> bytes:
    """Return the JSON of a binary request, with some fields of its tensor changed."""
    tensor = {
        "name": "images",
        "shape": list(IMAGES.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": SIZE},
    }
    return json.dumps({"inputs": [{**tensor, **changed}]}).encode()


@pytest.fixture(scope="module")
def client(colours: Path) -> Iterator[httpx.Client]:
    with server(colours, threads=1) as url, httpx.Client(base_url=url, timeout=20) as made:
        yield made
        # After all that has been sent, the server answers as it did.
        head = header()
        response = send(made, head, IMAGES.tobytes(), len(head))
        assert response.status_code == 200


def send(client: httpx.Client, head: bytes, data: bytes, length: object) -> httpx.Response:
    return client.post(PATH, content=head + data, headers={LENGTH: str(length)})


def refusal(response: httpx.Response) -> tuple[bool, list[str]]:
    """Return whether the status refuses, and the names in the body."""
    return response.status_code in (400, 413), list(response.json())


REFUSED = (True, ["error"])


@ANY
@given(length=st.integers(-(2**70), 2**70) | st.text("0123456789+-_.eE", min_size=1))
def test_a_wrong_length_of_the_json_is_refused(client: httpx.Client, length: object) -> None:
    head = header()
    # Nought means that there is no JSON: the body is one encoded image or tensor.
    assume(str(length) != str(len(head)))
    assert refusal(send(client, head, IMAGES.tobytes(), length)) == REFUSED


@ANY
@given(cut=st.integers(1, SIZE) | st.integers(-64, -1))
def test_more_or_fewer_bytes_than_the_tensor_has_are_refused(
    client: httpx.Client, cut: int
) -> None:
    head = header()
    data = IMAGES.tobytes()
    data = data[:-cut] if cut > 0 else data + bytes(-cut)
    assert refusal(send(client, head, data, len(head))) == REFUSED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=9), inside),
    max_leaves=8,
)


@ANY
@given(name=st.sampled_from(["name", "shape", "datatype", "parameters", "data"]), value=JSON)
def test_wrong_fields_of_a_tensor_are_refused(
    client: httpx.Client, name: str, value: object
) -> None:
    try:
        head = header(**{name: value})
    except ValueError:
        return
    response = send(client, head, IMAGES.tobytes(), len(head))
    # What is null counts as left out, and one binary input needs no size.
    allowed = (200, 400) if value is None or value == {} else (400, 413)
    assert response.status_code in allowed, (name, value)


@ANY
@given(sizes=st.lists(st.integers(-5, 9) | st.integers(), min_size=1, max_size=6))
def test_shapes_that_are_not_the_data_are_refused(client: httpx.Client, sizes: list[int]) -> None:
    head = header(shape=sizes)
    assume(sizes != list(IMAGES.shape))
    assert refusal(send(client, head, IMAGES.tobytes(), len(head))) == REFUSED


@ANY
@given(start=st.binary(max_size=400), data=st.data())
def test_any_bytes_get_an_answer(client: httpx.Client, start: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(start) + 3))
    assert refusal(send(client, start, b"", length)) == REFUSED


@ANY
@given(place=st.integers(0, len(header()) - 1), byte=st.integers(0, 255))
def test_one_damaged_byte_of_the_json_is_refused_or_harmless(
    client: httpx.Client, place: int, byte: int
) -> None:
    head = bytearray(header())
    head[place] = byte
    response = send(client, bytes(head), IMAGES.tobytes(), len(head))
    assert response.status_code in (200, 400, 413), response.text


@ANY
@given(files=st.lists(st.binary(max_size=60), max_size=4), lie=st.integers(-9, 9))
def test_encoded_files_of_any_bytes_are_refused(
    client: httpx.Client, files: list[bytes], lie: int
) -> None:
    data = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    head = header(
        name="images",
        shape=[len(files)],
        datatype="BYTES",
        parameters={"binary_data_size": max(0, len(data) + lie)},
    )
    assert refusal(send(client, head, data, len(head))) == REFUSED


@ANY
@given(values=st.lists(st.floats(width=32), min_size=4, max_size=4))
def test_thresholds_of_any_value_are_used_or_refused(
    client: httpx.Client, values: list[float]
) -> None:
    tensors = [
        json.loads(header())["inputs"][0],
        {
            "name": "threshold",
            "shape": [2, 1],
            "datatype": "FP32",
            "parameters": {"binary_data_size": 8},
        },
    ]
    head = json.dumps({"inputs": tensors}).encode()
    asked = np.asarray(values[:2], dtype=np.float32)
    response = send(client, head, IMAGES.tobytes() + asked.tobytes(), len(head))
    good = bool(((asked >= 0) & (asked <= 1)).all())
    assert response.status_code == (200 if good else 400), response.text
