"""Send requests when they are due, or one after the other, and write down what came back when."""

import asyncio
import contextlib
import gc
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from load.wire import Reply

# Of an open loop. Whoever finds all of them busy waits here, and that time counts.
CONNECTIONS = 256
# After the last request was due.
PATIENCE_S = 15.0


@dataclass
class Log:
    """What happened to R requests; seconds since the start, NaN where nothing did.

    Attributes:
        due: when each was to be sent; in a closed loop, when it was.
        sent, answered: when it was, and when its whole answer was there.
        replies: answers, None where the connection broke.
        spent_s: processor time of this process while it ran.
        took_s: wall time of the same.
    """

    due: NDArray[np.float64]
    sent: NDArray[np.float64]
    answered: NDArray[np.float64]
    replies: list[Reply | None]
    spent_s: float = 0.0
    took_s: float = 0.0


class Connection(asyncio.Protocol):
    """One kept connection with one request on its way; tells `done` of each answer."""

    def __init__(self, done: Callable[["Connection", Reply | None], None]) -> None:
        self.done, self.number = done, -1
        self._buffer = bytearray()
        self._size = self._head = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, number: int, request: bytes) -> None:
        """Send a request; `number` is the caller's."""
        self.number = number
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take bytes; hand a whole response on."""
        self._buffer += data
        if not self._size:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            lines = bytes(self._buffer[:head]).lower()
            at = lines.find(b"\r\ncontent-length:")
            if at < 0:
                raise ValueError(f"a response without its length: {lines!r}")
            self._head = head
            self._size = head + 4 + int(lines[at + 17 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < self._size:
            return
        head = bytes(self._buffer[: self._head]).lower()
        reply = Reply(int(head[9:12]), head, bytes(self._buffer[self._head + 4 : self._size]))
        self._buffer.clear()
        self._size = 0
        self.done(self, reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell of a request that nobody will answer."""
        if self.number >= 0:
            self.done(self, None)

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class _Drive:
    """What both loops do: request r is `requests[r % len(requests)]`."""

    def __init__(self, requests: Sequence[bytes], total: int) -> None:
        self.requests = requests
        self.log = Log(*(np.full(total, np.nan) for _ in range(3)), [None] * total)
        self.began, self.left = 0.0, total
        self.finished = asyncio.Event()

    def now(self) -> float:
        return time.perf_counter() - self.began

    def send(self, connection: Connection, number: int) -> None:
        self.log.sent[number] = self.now()
        connection.send(number, self.requests[number % len(self.requests)])

    def done(self, connection: Connection, reply: Reply | None) -> None:
        number, connection.number = connection.number, -1
        self.log.answered[number] = self.now()
        self.log.replies[number] = reply
        self.left -= 1
        if not self.left:
            self.finished.set()
        elif reply is not None:
            self.free(connection)

    def free(self, connection: Connection) -> None:
        """Use a connection that has just become idle."""
        raise NotImplementedError

    async def run(self, host: str, port: int, connections: int, patience_s: float) -> Log:
        """Drive the load to its end."""
        loop = asyncio.get_running_loop()
        made = [
            (await loop.create_connection(lambda: Connection(self.done), host, port))[1]
            for _ in range(connections)
        ]
        spent, self.began = time.process_time(), time.perf_counter()
        self.start(made)
        # What has no answer by then stays without one, and is counted.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.finished.wait(), patience_s)
        self.log.took_s, self.log.spent_s = self.now(), time.process_time() - spent
        for connection in made:
            connection.close()
        await asyncio.sleep(0)  # until they are
        return self.log

    def start(self, connections: list[Connection]) -> None:
        """Begin."""
        raise NotImplementedError


class _Open(_Drive):
    def __init__(self, requests: Sequence[bytes], due: NDArray[np.float64]) -> None:
        super().__init__(requests, len(due))
        self.log.due = due
        self.next = 0
        self.idle: list[Connection] = []
        self.waiting: deque[int] = deque()

    def start(self, connections: list[Connection]) -> None:
        self.idle = list(connections)
        self.loop = asyncio.get_running_loop()
        self.tick()

    def tick(self) -> None:
        """Send what is due, come back when the next is."""
        due = self.log.due
        while self.next < len(due) and due[self.next] <= self.now():
            if self.idle:
                self.send(self.idle.pop(), self.next)
            else:
                self.waiting.append(self.next)
            self.next += 1
        if self.next < len(due):
            self.loop.call_later(max(0.0, due[self.next] - self.now()), self.tick)

    def free(self, connection: Connection) -> None:
        if self.waiting:
            self.send(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)


class _Closed(_Drive):
    def __init__(self, requests: Sequence[bytes], seconds: float, most: int) -> None:
        super().__init__(requests, most)
        self.seconds, self.next, self.busy = seconds, 0, 0

    def start(self, connections: list[Connection]) -> None:
        self.busy = len(connections)
        for connection in connections:
            self.free(connection)

    def free(self, connection: Connection) -> None:
        if self.now() < self.seconds:
            self.next += 1
            self.send(connection, self.next - 1)
            return
        self.busy -= 1
        if not self.busy:
            self.finished.set()


def open_loop(host: str, port: int, requests: Sequence[bytes], due: NDArray[np.float64]) -> Log:
    """Send a request at each of the seconds `due` [R], which rise."""
    patience = float(due[-1]) + PATIENCE_S
    return _run(lambda: _Open(requests, due).run(host, port, CONNECTIONS, patience))


def closed_loop(
    host: str, port: int, requests: Sequence[bytes], clients: int, seconds: float, most: int
) -> Log:
    """Let `clients` send their next request when they are answered, `most` requests in all."""

    async def run() -> Log:
        drive = _Closed(requests, seconds, most)
        log = await drive.run(host, port, clients, seconds + PATIENCE_S)
        count = drive.next
        return Log(
            log.sent[:count], log.sent[:count], log.answered[:count], log.replies[:count],
            log.spent_s, log.took_s,
        )  # fmt: skip

    return _run(run)


def _run(drive: Callable[[], object]) -> Log:
    # select() waits for microseconds; the other selectors round up to whole milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    gc.collect()
    gc.disable()  # a collection in the middle would look like a slow server
    try:
        return loop.run_until_complete(drive())  # type: ignore[arg-type]
    finally:
        gc.enable()
        loop.close()
