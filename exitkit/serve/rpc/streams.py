"""ModelStreamInfer: many requests over one call, answered in their order.

A request with the parameter `stream` is told what every exit says as well, as it comes.
"""

import asyncio
from typing import Any

import grpc.aio

from exitkit.errors import RequestError
from exitkit.serve.intake import RATE, TooSlow
from exitkit.serve.models import Models
from exitkit.serve.rpc import answers, exits
from exitkit.serve.rpc.calls import Calls, Context, parse
from exitkit.serve.rpc.descriptors import CLASSES

# Requests of one stream that are worked on; more are read when one of them is answered.
DEPTH = 64
STREAM = "stream"
REQUEST, REPLY = CLASSES["ModelInferRequest"], CLASSES["ModelStreamInferResponse"]


class _Replies:
    """What goes out over one stream, in its order.

    Args:
        context: of the call.
        stall_s: seconds that a reply may wait to be read, and a bit longer where it is long.

    Attributes:
        slots: one for each request that may still be read before another one is answered.
    """

    def __init__(self, context: Context, stall_s: float) -> None:
        self._context, self._stall_s = context, stall_s
        self._waiting = asyncio.Queue[tuple[bytes, bool] | None]()
        self.slots = asyncio.Semaphore(DEPTH)

    def put(self, reply: Any, last: bool) -> None:
        """Send a message; the last of its request makes room for another one."""
        self._waiting.put_nowait((reply.SerializeToString(), last))

    def end(self) -> None:
        """Send nothing more."""
        self._waiting.put_nowait(None)

    async def write(self) -> None:
        """Send what is put until the end.

        Raises:
            TooSlow: the client does not read it.
        """
        while (row := await self._waiting.get()) is not None:
            reply, last = row
            allowed_s = self._stall_s + len(reply) / RATE
            try:
                async with asyncio.timeout(allowed_s):
                    await self._context.write(reply)
            except TimeoutError as error:
                raise TooSlow(
                    "an answer", f"was not read in {allowed_s:.0f} s", "read them as they come"
                ) from error
            if last:
                self.slots.release()


class Streams:
    """Answers the streams of a server.

    A request that fails is answered with its error and its id; the stream goes on.

    Args:
        models: of the server.
        calls: what every request goes through.
    """

    def __init__(self, models: Models, calls: Calls) -> None:
        self.models, self.calls = models, calls

    async def answer(self, context: Context) -> None:
        """Answer one stream to its end.

        Raises:
            Closing: the server stopped before the client ended it; what had come is answered.
            TooSlow: the client does not read the answers; what had come is given up.
        """
        replies = _Replies(context, self.calls.limits.stall_s)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(replies.write())
                last: asyncio.Task[None] | None = None
                while (body := await self._next(context)) is not None:
                    await replies.slots.acquire()
                    last = tasks.create_task(self._one(body, context, replies, last))
                if last is not None:
                    await last
                replies.end()
        except ExceptionGroup as failed:
            (error, *_) = failed.exceptions  # it ended all others
            if isinstance(error, grpc.aio.InternalError):  # nothing can be sent: the client is gone
                raise asyncio.CancelledError from None
            raise error from None
        if not context.done():
            self.calls.require_open()

    async def _next(self, context: Context) -> bytes | None:
        """Return the next message; None after the last, or when nothing new is taken."""
        coming = asyncio.ensure_future(context.read())
        closing = asyncio.ensure_future(self.calls.closing.wait())
        try:
            await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return None
            body = coming.result()
            return None if body is grpc.aio.EOF else body
        finally:
            closing.cancel()
            coming.cancel()

    async def _one(
        self, body: bytes, context: Context, replies: _Replies, before: asyncio.Task[None] | None
    ) -> None:
        """Answer one request; its answer waits for that of the request before."""
        message: Any = REQUEST()
        reply: Any = REPLY()

        def tell(answer: Any) -> None:
            replies.put(REPLY(infer_response=answer), last=False)

        with self.calls.attempt("ModelInfer") as attempt, self.calls.hold(body):
            message = parse(REQUEST, body)
            wanted = _wants_exits(message)
            answer = await answers.infer(self.models, message, context, tell if wanted else None)
            if wanted:
                answer.parameters[exits.LAST].bool_param = True
            reply = REPLY(infer_response=answer)
        if attempt.refusal is not None:
            reply.error_message = attempt.refusal.text
            reply.infer_response.id = message.id
        if before is not None:
            await before
        replies.put(reply, last=True)


def _wants_exits(message: Any) -> bool:
    """Take the parameter `stream` out of a request, and return what it says."""
    if STREAM not in message.parameters:
        return False
    value = message.parameters[STREAM]
    if not value.HasField("bool_param"):
        raise RequestError(f"parameter {STREAM}", "is no boolean", "give true or false")
    wanted = value.bool_param
    del message.parameters[STREAM]
    return bool(wanted)
