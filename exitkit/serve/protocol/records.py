"""What travels between a transport and `inference.infer`: requests, answers, and their tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Parameters = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: of the model's input or output.
        datatype: a key of `datatypes.NUMPY`, or BYTES.
        shape: whole numbers from 0.
        data: an array of that shape and type; BYTES: as many elements as the shape says, row by
            row. Whoever takes it does not write to it: it may be the memory of a request's body.
        parameters: of this tensor, without those that only say how it travels.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: NDArray[Any] | list[bytes]  # Any: of every datatype
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that a client asks for.

    Attributes:
        name: of the output.
        parameters: such as `classification`, without those that only say how it travels.
    """

    name: str
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One inference request.

    Attributes:
        inputs: in the order of the request.
        outputs: that are wanted; none: all.
        id: to be echoed, None where the client gave none.
        parameters: of the request, without those that only say how it travels.
        arrived: second of `time.perf_counter` at which its head was read, from which a deadline
            counts; None: when `infer` is called.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Wanted, ...] = ()
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
    arrived: float | None = None


@dataclass(frozen=True, slots=True)
class InferResponse:
    """The answer to one request.

    Attributes:
        model_name, model_version: what answered.
        outputs: in the order in which they were asked for.
        id: of the request, None where it had none.
        parameters: of the answer as a whole; see `answers.parameters`.
    """

    model_name: str
    model_version: str
    outputs: tuple[Tensor, ...]
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
