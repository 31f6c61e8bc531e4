"""Binary tensors over HTTP: written by hand, in every form, and torn in every way."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

INFER = "/v2/models/colours/infer"
HEADER = "Inference-Header-Content-Length"
COLOURS = ((255, 0, 0), (120, 140, 130), (0, 0, 255))
Paint = Callable[..., bytes]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as made:
        yield made


def packed(table: dict, tail: bytes = b"", url: str = "", **headers: str) -> httpx.Response:
    head = json.dumps(table).encode()
    return httpx.post(url + INFER, content=head + tail, headers={HEADER: str(len(head)), **headers})


def binary(name: str, array: np.ndarray, datatype: str) -> tuple[dict, bytes]:
    raw = array.tobytes()
    table = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return {**table, "parameters": {"binary_data_size": len(raw)}}, raw


def pixels() -> np.ndarray:
    """Return the images of COLOURS, uint8 [3, 3, 32, 32]."""
    rows = np.asarray(COLOURS, dtype=np.uint8)[:, :, None, None]
    return np.ascontiguousarray(np.broadcast_to(rows, (3, 3, 32, 32)))


def normalised() -> np.ndarray:
    return ((pixels().astype(np.float32) / 255 - 0.5) / 0.25).astype("<f4")


def read(response: httpx.Response) -> dict[str, list]:
    """Return the outputs of an answer, binary or not, by name."""
    assert response.status_code == 200, response.text
    if HEADER not in response.headers:
        return {row["name"]: row["data"] for row in response.json()["outputs"]}
    assert response.headers["content-type"] == "application/octet-stream"
    length, at = int(response.headers[HEADER]), int(response.headers[HEADER])
    found = {}
    for row in json.loads(response.content[:length])["outputs"]:
        if "data" in row:
            found[row["name"]] = row["data"]
            continue
        raw = response.content[at : at + row["parameters"]["binary_data_size"]]
        at += len(raw)
        if row["datatype"] == "BYTES":
            texts = []
            while raw:
                size = int.from_bytes(raw[:4], "little")
                texts.append(raw[4 : 4 + size].decode())
                raw = raw[4 + size :]
            found[row["name"]] = texts
        else:
            kind = {"FP32": "<f4", "INT64": "<i8"}[row["datatype"]]
            found[row["name"]] = np.frombuffer(raw, kind).tolist()
    assert at == len(response.content)
    return found


def test_all_forms_of_the_same_images_have_the_same_answer(url: str, paint: Paint) -> None:
    floats, raw = binary("images", normalised(), "FP32")
    plain = {key: floats[key] for key in ("name", "shape", "datatype")}
    from_json = httpx.post(
        url + INFER, json={"inputs": [{**plain, "data": normalised().ravel().tolist()}]}
    )
    want = read(from_json)
    assert want["label"] == ["red", "green", "blue"]
    assert want["exit_index"] == [2, 4, 2]

    everything = {"parameters": {"binary_data_output": True}}
    as_floats = packed({"inputs": [floats], **everything}, raw, url)
    assert HEADER in as_floats.headers
    bytes_, raw = binary("images", pixels(), "UINT8")
    as_bytes = packed({"inputs": [bytes_], **everything}, raw, url)
    files = [paint(*colour) for colour in COLOURS]
    raw = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    size = {"binary_data_size": len(raw)}
    table = {"name": "images", "shape": [3], "datatype": "BYTES", "parameters": size}
    as_files = packed({"inputs": [table], **everything}, raw, url)
    for response in (as_floats, as_bytes, as_files):
        found = read(response)
        assert found["label"] == want["label"]
        assert found["exit_index"] == want["exit_index"]
        np.testing.assert_allclose(np.ravel(found["probabilities"]), want["probabilities"], 1e-5)
    # Pixels and files take one path from there on, to the bit.
    assert read(as_bytes) == read(as_files)


def test_each_output_may_come_in_its_own_form(url: str) -> None:
    tensor, raw = binary("images", normalised(), "FP32")
    outputs = [
        {"name": "label", "parameters": {"binary_data": True}},
        {"name": "exit_index"},
        {"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}},
    ]
    response = packed({"inputs": [tensor], "outputs": outputs}, raw, url)
    head = json.loads(response.content[: int(response.headers[HEADER])])
    assert ["data" in row for row in head["outputs"]] == [False, True, False]
    found = read(response)
    assert found["label"] == ["red", "green", "blue"]
    assert found["exit_index"] == [2, 4, 2]
    assert [text.split(":")[1:] for text in found["probabilities"]] == [
        ["0", "red"], ["1", "green"], ["2", "blue"],
    ]  # fmt: skip


def test_json_and_binary_tensors_may_be_mixed(url: str) -> None:
    tensor, raw = binary("images", normalised(), "FP32")
    thresholds = {"name": "threshold", "datatype": "FP32", "shape": [3], "data": [1, 0, 1]}
    response = packed({"inputs": [thresholds, tensor]}, raw, url)
    assert HEADER not in response.headers
    assert read(response)["exit_index"] == [4, 2, 4]
    numbers, more = binary("threshold", np.asarray([[0], [1], [0]], "<f4"), "FP32")
    response = packed({"inputs": [tensor, numbers]}, raw + more, url)
    assert read(response)["exit_index"] == [2, 4, 2]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_file_may_be_the_whole_body(url: str, paint: Paint, kind: str) -> None:
    file = paint(255, 0, 0, kind=kind, side=50)
    for path in (INFER, "/v2/models/colours/versions/1/infer"):
        response = httpx.post(url + path, content=file, headers={HEADER: "0"})
        head = json.loads(response.content[: int(response.headers[HEADER])])
        assert all("binary_data_size" in row["parameters"] for row in head["outputs"])
        assert read(response)["label"] == ["red"]


def test_a_tensor_may_be_the_whole_body(url: str) -> None:
    body = normalised()[2].tobytes()
    found = read(httpx.post(url + INFER, content=body, headers={HEADER: "0"}))
    assert (found["label"], found["exit_index"]) == (["blue"], [2])


def test_a_file_behind_a_header_needs_no_size(url: str, paint: Paint) -> None:
    table = {"name": "images", "datatype": "BYTES", "shape": [1]}
    asked = {"inputs": [table], "parameters": {"threshold": 1}}
    assert read(packed(asked, paint(0, 0, 255), url))["exit_index"] == [4]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "a raw body of 0 bytes: is no PNG, JPEG or WebP file, and FP32 [1, 3, 32, 32] has"),
        (bytes(12287), "has 12288 bytes; send one of these"),
        (b"\x89PNG\r\n\x1a\n", "image of 8 bytes: cannot be decoded"),
        (b"\xff\xd8\xff\xe0" + bytes(12284), "cannot be decoded"),
        (b"\x00\x00\xc0\x7f" * 3072, "images: holds numbers beyond 1000"),
    ],
)
def test_a_raw_body_that_is_no_image_is_refused(url: str, body: bytes, says: str) -> None:
    response = httpx.post(url + INFER, content=body, headers={HEADER: "0"})
    assert response.status_code == 400
    assert says in response.json()["error"]


def test_no_tensor_that_is_taken_begins_like_a_file(paint: Paint) -> None:
    for kind in ("PNG", "JPEG", "WEBP"):
        (first,) = np.frombuffer(paint(1, 2, 3, kind=kind)[:4], "<f4")
        assert not abs(first) <= 1000


@pytest.mark.parametrize("text", ["-1", "x", "", "1e3", "0x2", "9" * 5000, "12.0", "²"])
def test_a_header_that_is_no_length_is_refused(url: str, text: str) -> None:
    response = httpx.post(url + INFER, content=b"{}", headers={HEADER: text.encode("latin-1")})
    assert response.status_code == 400
    assert "is no length; give the bytes of the JSON header" in response.json()["error"]
    assert len(response.text) < 300


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_packed_requests_and_answers(url: str, encoding: str) -> None:
    many = np.concatenate([normalised()] * 60)
    tensor, raw = binary("images", many, "FP32")
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = (gzip.compress if encoding == "gzip" else zlib.compress)(head + raw)
    headers = {HEADER: str(len(head)), "Content-Encoding": encoding, "Accept-Encoding": encoding}
    response = httpx.post(url + INFER, content=body, headers=headers)
    assert response.headers["content-encoding"] == encoding
    # The length of the header is that of the unpacked body, as httpx shows it.
    assert read(response)["label"] == ["red", "green", "blue"] * 60
    plain = httpx.post(
        url + INFER, content=body, headers={**headers, "Accept-Encoding": "identity"}
    )
    assert "content-encoding" not in plain.headers
    assert (
        plain.content[int(plain.headers[HEADER]) :]
        == (response.content[int(response.headers[HEADER]) :])
    )


def test_small_answers_are_not_packed(url: str) -> None:
    tensor, raw = binary("images", normalised()[:1], "FP32")
    asked = {"inputs": [tensor], "outputs": [{"name": "label"}]}
    response = packed(asked, raw, url, **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in response.headers


def test_a_bomb_is_413_and_a_foreign_encoding_415(url: str) -> None:
    bomb = gzip.compress(bytes(2**26 + 1))
    response = httpx.post(url + INFER, content=bomb, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert "unpacked it has more than 67108864 bytes" in response.json()["error"]
    response = httpx.post(url + INFER, content=b"x", headers={"Content-Encoding": "br"})
    assert response.status_code == 415
    damaged = httpx.post(url + INFER, content=b"x", headers={"Content-Encoding": "gzip"})
    assert damaged.status_code == 400


@st.composite
def torn(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """Return a body that is nearly right, and its headers."""
    array = normalised()[: draw(st.integers(0, 2))]
    tensor, raw = binary("images", array, "FP32")
    change = st.fixed_dictionaries(
        {},
        optional={
            "shape": st.lists(st.integers(-1, 3072), max_size=4),
            "datatype": st.sampled_from(["FP32", "UINT8", "BYTES", "BOOL", "FP16", "BF16", "X"]),
            "parameters": st.fixed_dictionaries(
                {}, optional={"binary_data_size": st.integers(-1, 40_000)}
            ),
            "data": st.lists(st.floats(width=32) | st.text(max_size=2), max_size=3),
        },
    )
    head = json.dumps({"inputs": [{**tensor, **draw(change)}]}).encode()
    raw = draw(st.sampled_from([raw, raw[:-1], raw + b"x", b"", raw[: len(raw) // 2]]))
    length = draw(st.sampled_from([len(head), len(head) - 1, len(head) + 1, 0, 10**6]))
    headers = {HEADER: str(length)}
    body = head + raw
    if draw(st.booleans()):
        body, headers = zlib.compress(body), {**headers, "Content-Encoding": "deflate"}
    return body, headers


@settings(max_examples=150, deadline=None)
@given(torn())
def test_whatever_is_torn_is_answered_or_refused(
    url: str, client: httpx.Client, sent: tuple
) -> None:
    body, headers = sent
    response = client.post(url + INFER, content=body, headers=headers)
    assert response.status_code in (200, 400, 413)
    if response.status_code != 200:
        assert list(response.json()) == ["error"]
