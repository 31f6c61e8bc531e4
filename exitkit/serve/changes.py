"""Loading and unloading as the event loop asks for it: on a thread of their own.

They take seconds, and each waits for the one before. On the threads that read bodies and numbers
a few of them would leave none for anybody else.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

THREAD = ThreadPoolExecutor(1, "exitkit-change")


async def make(change: Callable[[str], None], name: str) -> None:
    """Return when `change` of the model `name` is done.

    Raises:
        Exception: whatever it raises.
    """
    await asyncio.get_running_loop().run_in_executor(THREAD, change, name)
