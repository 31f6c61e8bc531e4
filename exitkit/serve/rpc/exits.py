"""What one exit says of the images of a request, as an answer of its own in a stream."""

import numpy as np

from exitkit.serve.models import VERSION
from exitkit.serve.protocol.records import InferResponse, Tensor
from exitkit.serve.scheduling.requests import Seen
from exitkit.serve.service import Service

# Triton's name for a response parameter: whether a request's last answer is this one.
LAST = "triton_final_response"


def record(service: Service, seen: Seen, id: str | None) -> InferResponse:
    """Return what an exit said of m images: a row each, `image` is their number in the request.

    `final` says of each whether that is its answer.
    """
    m, classes = len(seen.images), service.manifest.classes
    names = [classes[k].encode() for k in seen.logits.argmax(axis=1).tolist()]
    return InferResponse(
        service.manifest.name,
        VERSION,
        (
            Tensor("image", "INT64", (m,), seen.images.astype(np.int64)),
            Tensor("exit_index", "INT64", (m,), np.full(m, seen.exit, np.int64)),
            Tensor("label", "BYTES", (m,), names),
            Tensor("confidence", "FP32", (m,), seen.probability.astype(np.float32)),
            Tensor("compute", "FP32", (m,), np.full(m, service.shares[seen.exit], np.float32)),
            Tensor("final", "BOOL", (m,), seen.final),
        ),
        id,
        {LAST: False, "ms": seen.seconds * 1e3},
    )
