"""Image files are decoded beside the event loop, in turns, so that no request occupies a thread."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from exitkit import machine
from exitkit.errors import Overloaded
from exitkit.images import ImageSpec
from exitkit.serve.codec import Decoded, Decoding
from exitkit.serve.limits import Limits
from exitkit.serve.scheduling.rate import Rate
from exitkit.serve.scheduling.requests import DeadlineExceeded
from exitkit.serve.scheduling.scheduler import clock

# Of the process, whatever models it has: each thread may hold one image of the largest size.
CORES = machine.cores()
THREADS = ThreadPoolExecutor(CORES, "exitkit-decode")
# After so many seconds the rest of a request's files waits behind what came meanwhile.
TURN_S = 0.01
# Where late files do not fail the others, these are decoded in so much of the time that is left:
# the rest of it is for the exits, without which nobody has an answer.
SHARE = 0.9


class Decoder:
    """Decodes the image files of one model's requests. Used on the event loop.

    Args:
        spec: what the network wants to see.
        limits: of the server.

    Attributes:
        waiting: files that wait to be decoded, or are.
        rate: at which all threads together decode.
    """

    def __init__(self, spec: ImageSpec, limits: Limits) -> None:
        self._spec, self._limits = spec, limits
        self.waiting, self.rate = 0, Rate()

    async def decode(self, files: Sequence[bytes], deadline: float | None, whole: bool) -> Decoded:
        """Decode the files of one request; cancelling this ends it after the file at hand.

        Args:
            files: the encoded images.
            deadline: second of `clock` until which this may take; None: as long as it takes.
            whole: whether one file that is late fails them all; if not, it fails beside the others.

        Raises:
            Overloaded: as many images as the queue holds are being decoded already.
            DeadlineExceeded: some file was not decoded in time; if not `whole`, all of them.
        """
        if self.waiting + len(files) > self._limits.queue:
            raise Overloaded(
                f"{len(files)} images",
                f"{self.waiting} wait to be decoded, at most {self._limits.queue} may",
                "come again after the seconds in Retry-After",
                self.rate.wait_s(self.waiting),
            )
        self.waiting += len(files)
        work = Decoding(files, self._spec, self._limits.pixels)
        try:
            decoded = await self._in_turns(work, _end(deadline, whole or len(files) == 1))
        finally:
            work.over = True
            self.waiting -= len(files)
        if decoded.late and (whole or not len(decoded.inputs)):
            raise DeadlineExceeded()
        return decoded

    async def _in_turns(self, work: Decoding, until: float | None) -> Decoded:
        loop = asyncio.get_running_loop()
        while True:
            spent, left = work.seconds, work.left
            turn = loop.run_in_executor(THREADS, work.turn, TURN_S)
            try:
                decoded = await asyncio.wait_for(turn, None if until is None else until - clock())
            except TimeoutError:
                return await asyncio.to_thread(work.finished)  # not behind those that decode
            self.rate.add(left - work.left, (work.seconds - spent) / CORES)
            if decoded is not None:
                return decoded


def _end(deadline: float | None, whole: bool) -> float | None:
    """Return the second at which what is decoded by then goes on without the rest."""
    if deadline is None or whole:
        return deadline
    now = clock()
    return now + SHARE * (deadline - now)
