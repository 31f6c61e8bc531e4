"""One model: the scheduler that runs it and the counters that count it, one thing to ask."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exitkit.engine.model import Model
from exitkit.errors import ExitkitError, Overloaded
from exitkit.policy import criteria
from exitkit.policy.policy import PerRow
from exitkit.serve import codec, logs
from exitkit.serve.adaptive import Depth, Rung
from exitkit.serve.counts import Counts, Live
from exitkit.serve.decoding import Decoder
from exitkit.serve.limits import Limits
from exitkit.serve.metrics import Metrics
from exitkit.serve.options import Options
from exitkit.serve.scheduling.requests import DeadlineExceeded, Observer, Result, Seen
from exitkit.serve.scheduling.scheduler import Scheduler, clock
from exitkit.serve.scheduling.stages import Stages
from exitkit.serve.tradeoff import Tradeoff

NOTHING = contextlib.nullcontext()


@dataclass(frozen=True)
class Measured:
    """What the warm-up measured, milliseconds at batch 1 on this machine.

    Attributes:
        pool: kind of thread pool that was taken; on a GPU the provider.
        exit_ms: of leaving at each exit, shallow to deep.
        pools_ms: of one image at the operating point in force, for each kind that was tried.
        beside: requests that this server was answering meanwhile; their work makes it slower.
    """

    pool: str
    exit_ms: tuple[float, ...]
    pools_ms: dict[str, float]
    beside: int = 0


class Service:
    """Answers images; everything that the routes need, without HTTP.

    Args:
        model: what answers; the service's scheduler is the only one to run it.
        limits: of this server.
        tradeoff: the bundle's sweep.
        stages: times of the model's segments, up to the limits' batch.
        measured: what the warm-up found, None where nothing was measured.
        depth: lowers thresholds under load; None: they stay.
    """

    def __init__(
        self,
        model: Model,
        limits: Limits,
        tradeoff: Tradeoff,
        stages: Stages,
        measured: Measured | None = None,
        depth: Depth | None = None,
    ) -> None:
        self.depth, self._stages = depth, stages
        self.model, self.limits, self.tradeoff, self.measured = model, limits, tradeoff, measured
        # Clients know a model by the name of its bundle; the manifest has that of the run.
        self.manifest = dataclasses.replace(model.manifest, name=model.folder.name)
        self.policy = model.policy
        # Of the plain network's multiply-adds, by the exit that an image leaves at.
        self.shares = {
            exit_: round(macs / tradeoff.plain_macs, 6)
            for exit_, macs in zip(tradeoff.exits, tradeoff.macs, strict=True)
        }
        self.counts: Counts
        self.scheduler = Scheduler(model.engine, stages, limits.queue, self._ran)
        self.decoder = Decoder(self.manifest.image, limits)

    @property
    def live(self) -> Live:
        """How the model stands at this moment."""
        queued, rate = self.scheduler.queued, self.scheduler.rate
        thresholds = self.policy.thresholds
        if self.depth is not None:
            thresholds = self.depth.choose(clock()).thresholds
        return Live(queued, self.decoder.waiting, rate, thresholds)

    def _ran(self, exit_: int, images: int, seconds: float) -> None:
        self.counts.ran(exit_, images, seconds)
        if self.depth is not None:
            expected_s = self._stages.seconds(self.policy.exits.index(exit_), images)
            self.depth.ran(expected_s, seconds)

    def measured_beside(self, requests: int) -> None:
        """Note how many requests the server was answering while this model was measured."""
        if self.measured is not None:
            self.measured = dataclasses.replace(self.measured, beside=requests)

    def start(self, metrics: Metrics) -> None:
        """Start the engine thread; what it does is counted in `metrics`."""
        self.counts = metrics.of(
            self.manifest.name,
            self.manifest.exits,
            self.tradeoff.macs,
            self.tradeoff.plain_macs,
            lambda: self.live,
        )
        self.scheduler.start()

    def stop(self, patience_s: float) -> bool:
        """Finish what was accepted; return whether all of it was within `patience_s`."""
        return self.scheduler.close(patience_s)

    async def decode(
        self, files: Sequence[bytes], deadline: float | None = None, *, whole: bool = True
    ) -> codec.Decoded:
        """Decode image files beside the event loop; called from the event loop.

        Args:
            files: the encoded images.
            deadline: second of `clock` until which this may take.
            whole: whether one file that is not decoded in time fails them all; if not, it fails
                beside those that are, while there is some time left for their answers.

        Raises:
            Overloaded: as many images as the queue holds are being decoded already.
            DeadlineExceeded: some file was not decoded in time; if not `whole`, all of them.
        """
        with self._counting(len(files), clock()):
            decoded = await self.decoder.decode(files, deadline, whole)
        if decoded.late:
            self.counts.late(decoded.late)
        self.counts.worked("compute_input", decoded.seconds)
        return decoded

    async def answer(
        self,
        images: NDArray[np.float32],
        options: Options,
        observe: Observer | None = None,
        arrived: float | None = None,
        *,
        whole: bool = True,
    ) -> Result:
        """Answer normalised images [n,3,H,W]; cancelling this takes them out of the queues.

        Args:
            images: of one request.
            options: its wishes.
            observe: told on the event loop what every exit says, before this returns.
            arrived: second of `clock` from which a deadline counts; None: now.
            whole: whether one image without an answer in time fails them all; if not, it stands
                beside those that have one.

        Raises:
            RequestError: other than one threshold, or one for each image.
            Overloaded: the queue is full.
            DeadlineExceeded: no exit had answered some image in time; if not `whole`, any image.
            EngineError: the engine failed.
        """
        options.require(len(images))
        came = clock() if arrived is None else arrived
        rung, used = self._in_force(options)
        with self._counting(len(images), came):
            future = self.scheduler.submit(
                images,
                self._submitted(used),
                options.max_exit,
                options.due(came),
                None if observe is None else _on_loop(observe),
            )
            with NOTHING if self.depth is None else self.depth.holding(len(images), rung):
                result = await asyncio.wrap_future(future)
            if whole:
                result.require_all()
        seconds = clock() - came
        left = self.counts.answered(result.answered(), seconds, len(result.late))
        logs.answered(self.manifest.name, left)
        # Input and output are added by those who do them; readers want equal counts of all three.
        self.counts.spent(
            success=seconds, queue=result.queue_s,
            compute_input=0.0, compute_infer=result.compute_s, compute_output=0.0,
        )  # fmt: skip
        return dataclasses.replace(result, thresholds=used)

    @contextlib.contextmanager
    def _counting(self, images: int, began: float) -> Iterator[None]:
        """Count a request that fails while the block runs, or whose client goes away."""
        try:
            yield
        except ExitkitError as error:
            self.counts.spent(fail=clock() - began)
            if isinstance(error, Overloaded):
                self.counts.refused(images)
            elif isinstance(error, DeadlineExceeded):
                self.counts.late(images)
            raise
        except asyncio.CancelledError:
            self.counts.cancelled()
            raise

    def _in_force(
        self, options: Options
    ) -> tuple[Rung | None, tuple[float, ...] | NDArray[np.float32]]:
        """Return what was chosen for the load, and what the images are to be held against.

        That is one threshold per exit but the deepest, or [n] one of each image. Requests with
        wishes of their own get the policy's or their own, whatever the load.
        """
        wanted, own = options.threshold, self.policy.thresholds
        if isinstance(wanted, np.ndarray):
            return None, wanted
        if wanted is not None:
            return None, (float(wanted),) * len(own)
        if self.depth is None or options.max_exit is not None:
            return None, own
        rung = self.depth.choose(clock())
        return rung, rung.thresholds

    def _submitted(self, used: tuple[float, ...] | NDArray[np.float32]) -> PerRow | None:
        """Return thresholds as the scheduler takes them; None: the policy's own, which is cheap."""
        if isinstance(used, np.ndarray):
            return np.repeat(used[:, np.newaxis], len(self.policy.thresholds), axis=1)
        return None if used == self.policy.thresholds else used

    def probabilities(self, result: Result) -> NDArray[np.float32]:
        """Return [n,C] the calibrated class probabilities, each row by its exit's temperature."""
        answers = result.answers
        temperatures = dict(zip(self.policy.exits, self.policy.temperatures, strict=True))
        left = set(answers.exit.tolist())
        if len(left) == 1:  # most requests; choosing rows takes longer than the softmax
            return criteria.probabilities(answers.logits, temperatures[left.pop()])
        table = np.empty_like(answers.logits, dtype=np.float32)
        for exit_, temperature in temperatures.items():
            rows = answers.exit == exit_
            if rows.any():
                table[rows] = criteria.probabilities(answers.logits[rows], temperature)
        return table


def _on_loop(observe: Observer) -> Observer:
    """Hand over what the engine's thread tells an observer to the event loop that runs now."""
    loop = asyncio.get_running_loop()

    def tell(seen: Seen) -> None:
        loop.call_soon_threadsafe(observe, seen)

    return tell
