"""Requests as bytes, encoded before the load begins, and what their answers say."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINARY = "inference-header-content-length"


@dataclass(frozen=True)
class Reply:
    """One HTTP response.

    Attributes:
        status: its code.
        head: status line and headers, in lower case.
        body: as it came.
    """

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return None


def post(path: str, body: bytes, kind: str, **headers: object) -> bytes:
    """Return a POST request; an underscore in a header's name stands for a hyphen."""
    lines = [f"POST {path} HTTP/1.1", "Host: load", f"Content-Type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def tensor(model: str, images: NDArray[np.float32]) -> bytes:
    """Return an infer request with images [n, 3, H, W] as a binary tensor, answered in binary."""
    raw = np.ascontiguousarray(images, dtype="<f4").tobytes()
    given = {
        "name": "images", "shape": list(images.shape), "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }  # fmt: skip
    wanted = [{"name": n, "parameters": {"binary_data": True}} for n in ("label", "exit_index")]
    head = json.dumps({"inputs": [given], "outputs": wanted}, separators=(",", ":")).encode()
    path = f"/v2/models/{model}/infer"
    return post(
        path, head + raw, "application/octet-stream", Inference_Header_Content_Length=len(head)
    )


def plain(model: str, images: NDArray[np.float32]) -> bytes:
    """Return the same request in JSON, answered in JSON."""
    given = {
        "name": "images", "shape": list(images.shape), "datatype": "FP32",
        "data": [round(float(x), 6) for x in images.ravel()],
    }  # fmt: skip
    asked = {"inputs": [given], "outputs": [{"name": "label"}, {"name": "exit_index"}]}
    body = json.dumps(asked, separators=(",", ":")).encode()
    return post(f"/v2/models/{model}/infer", body, "application/json")


def file(encoded: bytes) -> bytes:
    """Return a /predict request whose body is an image file."""
    return post("/predict", encoded, "image/webp")


def base64_json(encoded: bytes) -> bytes:
    """Return a /predict request with an image file as base64 text in JSON."""
    body = json.dumps({"image": base64.b64encode(encoded).decode()}).encode()
    return post("/predict", body, "application/json")


def read(reply: Reply) -> tuple[list[str], list[int]]:
    """Return labels and exits of an answer, in the order of its images; exit 0 where none is said.

    Raises:
        ValueError: it is no answer that this knows.
    """
    size = reply.header(BINARY)
    table = json.loads(reply.body if size is None else reply.body[: int(size)])
    if "outputs" not in table:  # of /predict, or of a server of another kind
        return [table["label"]], [table.get("exit", 0)]
    columns: dict[str, list[object]] = {}
    start = 0 if size is None else int(size)
    for output in table["outputs"]:
        if "data" in output:
            columns[output["name"]] = output["data"]
            continue
        stop = start + output["parameters"]["binary_data_size"]
        columns[output["name"]] = _unpack(output["datatype"], reply.body[start:stop])
        start = stop
    return [str(x) for x in columns["label"]], [int(str(x)) for x in columns["exit_index"]]


def _unpack(datatype: str, raw: bytes) -> list[object]:
    if datatype == "INT64":
        found: list[object] = np.frombuffer(raw, "<i8").tolist()
        return found
    if datatype != "BYTES":
        raise ValueError(f"an output of {datatype}, where INT64 or BYTES was asked for")
    words: list[object] = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        words.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return words


def batches(requests: Sequence[int], size: int) -> list[list[int]]:
    """Cut image numbers into requests of `size`; a rest that fills none is left out."""
    whole = len(requests) // size * size
    return [list(requests[start : start + size]) for start in range(0, whole, size)]
