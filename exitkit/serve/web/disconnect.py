"""A client that goes away while its request waits: what is done for it ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect

from exitkit.serve.web.bodies import Receive

T = TypeVar("T")
# Most requests are answered before that, and pay nothing but a timer for being looked after.
AFTER_S = 0.05
# The status under which nginx counts them too; nobody receives it.
GONE = 499
# Says in an ASGI scope that its client went away when a status had been sent already.
LEFT = "exitkit.left"


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it as soon as the client has gone away.

    Args:
        receive: of the ASGI request, whose body has been read to its end.
        work: runs in the task that called.

    Raises:
        ClientDisconnect: it went away.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    timer = loop.call_later(AFTER_S, begin)
    try:
        return await work
    except asyncio.CancelledError:
        # Where the server cancels as well, that is the stronger reason.
        if gone and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
