"""The raw form of an infer request: no JSON at all, the body is one image.

It is said by `Inference-Header-Content-Length: 0`. A body that begins like a PNG, JPEG or WebP file
is one; any other is the tensor that the metadata lists, float32 [1, 3, H, W]. Nothing is both: read
as float32, the first four bytes of each kind of file are a number far beyond a normalised pixel.
"""

import numpy as np

from exitkit.errors import RequestError
from exitkit.images import ImageSpec
from exitkit.serve.inference import IMAGES
from exitkit.serve.protocol.records import InferRequest, Tensor
from exitkit.serve.web.wire import Form

PNG, JPEG = b"\x89PNG", b"\xff\xd8\xff"
WEBP = b"RIFF"
# Every JPEG file begins with a table, a remark or an application's data; their markers are above.
LOWEST_MARKER = 0xC4


def read(body: bytes, spec: ImageSpec, arrived: float | None) -> tuple[InferRequest, Form]:
    """Read a body as one image; all outputs come back in binary.

    Raises:
        RequestError: it is neither a file nor a tensor.
    """
    if is_file(body):
        tensor = Tensor(IMAGES, "BYTES", (1,), [body])
    else:
        shape = (1, 3, spec.height, spec.width)
        needed = 4 * 3 * spec.height * spec.width
        if len(body) != needed:
            raise RequestError(
                f"a raw body of {len(body)} bytes",
                f"is no PNG, JPEG or WebP file, and FP32 {list(shape)} has {needed} bytes",
                "send one of these, or a JSON header",
            )
        tensor = Tensor(IMAGES, "FP32", shape, np.frombuffer(body, "<f4").reshape(shape))
    return InferRequest((tensor,), arrived=arrived), Form(binary=True)


def is_file(body: bytes) -> bool:
    """Return whether a body begins like an image file that `images.decode` reads."""
    if body.startswith(JPEG):
        return len(body) > 3 and body[3] >= LOWEST_MARKER
    return body.startswith((PNG, WEBP))
