"""ModelStreamInfer: many requests over one call, answered in their order."""

import asyncio
from typing import Any

import grpc.aio

from exitkit.serve.models import Models
from exitkit.serve.rpc import answers
from exitkit.serve.rpc.calls import Calls, Context, parse
from exitkit.serve.rpc.descriptors import CLASSES

# Requests of one stream that are worked on; more are read when one of them is answered.
DEPTH = 64
REQUEST, REPLY = CLASSES["ModelInferRequest"], CLASSES["ModelStreamInferResponse"]


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
        """
        slots = asyncio.Semaphore(DEPTH)
        replies: asyncio.Queue[bytes | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_write(context, replies, slots))
            last: asyncio.Task[None] | None = None
            while (body := await self._next(context)) is not None:
                await slots.acquire()
                last = tasks.create_task(self._one(body, context, replies, last))
            if last is not None:
                await last
            replies.put_nowait(None)
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
        self,
        body: bytes,
        context: Context,
        replies: asyncio.Queue[bytes | None],
        before: asyncio.Task[None] | None,
    ) -> None:
        """Answer one request; its answer waits for that of the request before."""
        message: Any = REQUEST()
        reply: Any = REPLY()
        with self.calls.attempt("ModelInfer") as attempt:
            message = parse(REQUEST, body)
            answer = await answers.infer(self.models, message, context)
            reply.infer_response.CopyFrom(answer)
        if attempt.refusal is not None:
            reply.error_message = attempt.refusal.text
            reply.infer_response.id = message.id
        if before is not None:
            await before
        replies.put_nowait(reply.SerializeToString())


async def _write(
    context: Context, replies: asyncio.Queue[bytes | None], slots: asyncio.Semaphore
) -> None:
    while (reply := await replies.get()) is not None:
        await context.write(reply)
        slots.release()
