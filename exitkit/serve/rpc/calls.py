"""What every call goes through: its token, its message, errors to codes, and the counters."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc.aio import ServicerContext as Context

from exitkit.errors import RequestError
from exitkit.serve import logs
from exitkit.serve.access import Access
from exitkit.serve.intake import RATE, Held, TooSlow
from exitkit.serve.limits import Limits
from exitkit.serve.metrics import Metrics
from exitkit.serve.rpc import sizes
from exitkit.serve.rpc.refusals import CODES, Refusal, refuse
from exitkit.serve.scheduling.requests import Closing
from exitkit.serve.scheduling.scheduler import clock

Answer = Callable[[Any, Context], Awaitable[Message]]  # Any: a message of some class
Stream = Callable[[Context], Awaitable[None]]
ID = "x-request-id"
# Without a token and to the last, as over HTTP: whether the server lives, for probes.
OPEN = ("ServerLive", "ServerReady", "Check")
CONTROL = ("RepositoryModelLoad", "RepositoryModelUnload")
CANCELLED = 499  # in the counters, where all others are HTTP's codes too


@dataclass
class Attempt:
    """How a call goes.

    Attributes:
        about: what is known of it.
        refusal: None as long as it is not refused.
    """

    about: logs.Note
    refusal: Refusal | None = None


@dataclass
class Calls:
    """The calls of one server, in its event loop.

    Attributes:
        access: who may call.
        metrics: what counts them.
        limits: of the server.
        held: bytes of what is being answered.
        open: calls whose answer has not been sent yet.
        closing: set when nothing new is taken any more.
    """

    access: Access
    metrics: Metrics
    limits: Limits
    held: Held
    open: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def unary(self, name: str, kind: type[Message], answer: Answer) -> grpc.RpcMethodHandler:
        """Let `answer` answer the calls of a method, whose requests are of a `kind`."""

        async def handle(requests: object, context: Context) -> bytes:
            self._begin(context)
            reply = b""
            with self.attempt(name, given(context, ID)) as attempt:
                self.admit(name, context)
                body = await self._read(context)
                with self.hold(body):
                    reply = (await answer(parse(kind, body), context)).SerializeToString()
            await finish(context, attempt)
            return reply

        # As if it were a stream of one message: that is read after its sender is admitted.
        return grpc.stream_unary_rpc_method_handler(handle)

    def stream(self, name: str, answer: Stream) -> grpc.RpcMethodHandler:
        """Let `answer` read from and write to the calls of a method with streams of messages."""

        async def handle(requests: object, context: Context) -> None:
            self._begin(context)
            with self.attempt(name, given(context, ID)) as attempt:
                self.admit(name, context)
                await answer(context)
            await finish(context, attempt)

        return grpc.stream_stream_rpc_method_handler(handle)

    @contextlib.contextmanager
    def attempt(self, name: str, id: str = "") -> Iterator[Attempt]:
        """Count what the block does, and write its line; an error in it becomes a refusal.

        Args:
            name: of the method.
            id: of the request, from the call's metadata.
        """
        began, route, status = clock(), f"grpc:{name}", CANCELLED
        with logs.Noting(id) as about:
            attempt = Attempt(about)
            try:
                yield attempt
                status = 200
            except Exception as error:
                attempt.refusal = refuse(error, about)
                status = attempt.refusal.status
            finally:
                seconds = clock() - began
                self.metrics.responded(route, status, seconds)
                logs.line(about, route, status, seconds)

    def admit(self, name: str, context: Context) -> None:
        """Let a call pass that may call the method.

        Raises:
            RequestError: it may not, or the server is stopping.
        """
        if name in OPEN:
            return
        self.access.admit(given(context, "authorization") or None)
        if name in CONTROL:
            self.access.control()
        self.require_open()

    def require_open(self) -> None:
        """Let pass what comes before the end.

        Raises:
            Closing: the server is stopping.
        """
        if self.closing.is_set():
            raise Closing("a request", "the server is stopping", "ask another one")

    def _begin(self, context: Context) -> None:
        """Count a call as open until its last byte is sent, or nobody wants it any more."""

        def ended(context: Context) -> None:
            self.open -= 1

        self.open += 1
        context.add_done_callback(ended)

    async def _read(self, context: Context) -> Any:  # Any: see `parse`
        """Return the message of a call; it may take as long as the largest may.

        Raises:
            TooSlow: it did not come in the time that the largest one may take.
        """
        allowed_s = self.limits.stall_s + self.limits.body_bytes / RATE
        try:
            async with asyncio.timeout(allowed_s):
                return await context.read()
        except TimeoutError as error:
            raise TooSlow(
                "a message", f"did not come in {allowed_s:.0f} s", "send it faster"
            ) from error

    @contextlib.contextmanager
    def hold(self, body: Any) -> Iterator[None]:  # Any: see `parse`
        """Let the bytes of a message count until the block ends.

        Raises:
            Overloaded: all requests together are too large.
        """
        size = len(body) if isinstance(body, bytes) else 0
        self.held.add(size)
        try:
            yield
        finally:
            self.held.drop(size)


def parse(kind: type[Message], body: Any) -> Message:  # Any: bytes, or the end of the stream
    """Read a message.

    Raises:
        RequestError: these bytes are none.
        TooLarge: see `sizes`.
    """
    if not isinstance(body, bytes):
        raise RequestError("a message", "the call has none", "send one")
    try:
        sizes.check(kind.DESCRIPTOR, body)
        return kind.FromString(body)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise RequestError(
            "a message", f"is no {name} ({error})", "generate the client from the protocol"
        ) from error


def given(context: Context, name: str) -> str:
    """Return a value of a call's metadata; empty where there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == name and isinstance(value, str):
            return value
    return ""


async def finish(context: Context, attempt: Attempt) -> None:
    """End a call, without an answer where it was refused, and tell its id."""
    metadata = ((ID, attempt.about.id),)
    if attempt.refusal is None:
        context.set_trailing_metadata(metadata)
        return
    refusal = attempt.refusal
    await context.abort(CODES[refusal.status], refusal.text, refusal.metadata + metadata)
