"""What a stage costs per batch size, measured: all that the scheduler knows of time."""

from collections.abc import Sequence
from itertools import accumulate

from exitkit.engine.costs import Costs
from exitkit.errors import ConfigError

# Milliseconds that a batch costs besides its segment: queues, policy, rows and answers. It is
# what makes a batch of one dear where a segment's time is proportional to its rows.
BESIDES_MS = 0.1


class Stages:
    """Seconds of every stage at every batch size, and how well a batch uses them.

    Args:
        seconds: [K][B], of stage k on a batch of b + 1 rows.

    Raises:
        ConfigError: no stage, no batch size, or a time that is not above zero.
    """

    def __init__(self, seconds: Sequence[Sequence[float]]) -> None:
        self._seconds = [[float(s) for s in row] for row in seconds]
        sizes = {len(row) for row in self._seconds}
        if len(sizes) != 1 or sizes == {0} or min(min(row) for row in self._seconds) <= 0:
            raise ConfigError(
                "times of stages", f"{len(self._seconds)} of {sizes} sizes", "measure them again"
            )
        self.count, self.batch = len(self._seconds), sizes.pop()
        self._least = [min(s / b for b, s in enumerate(row, 1)) for row in self._seconds]
        self._use = [_use(row) for row in self._seconds]

    @classmethod
    def of(cls, costs: Costs, batch: int, besides_ms: float = BESIDES_MS) -> "Stages":
        """Take a measured table up to `batch` rows.

        Between measured sizes time is linear, beyond the largest in proportion to the rows. No
        batch takes longer than a larger one: what disturbed the measurement only adds.
        """
        most = costs.batch_sizes[-1]
        seconds = []
        for k in range(len(costs.exits)):
            ms = [costs.ms(k, min(b, most)) * max(1.0, b / most) for b in range(1, batch + 1)]
            least = list(accumulate(reversed(ms), min))
            seconds.append([(one + besides_ms) / 1e3 for one in reversed(least)])
        return cls(seconds)

    def seconds(self, stage: int, rows: int) -> float:
        """Return the time of `rows` rows, 1 to `batch`."""
        return self._seconds[stage][rows - 1]

    def least(self, stage: int) -> float:
        """Return the time of one row in the batch that uses the stage best."""
        return self._least[stage]

    def use(self, stage: int, rows: int) -> float:
        """Return rows per second of such a batch over those of the best batch: 1 is best."""
        return self._use[stage][rows - 1]

    def within(self, stage: int, seconds: float) -> int:
        """Return the most rows whose time is at most `seconds`; 0 where one row takes longer."""
        times = self._seconds[stage]
        return max((b for b in range(1, self.batch + 1) if times[b - 1] <= seconds), default=0)

    def whole(self, rows: int) -> float:
        """Return the time of a batch that goes through all stages without loss."""
        return sum(times[rows - 1] for times in self._seconds)


def _use(times: Sequence[float]) -> list[float]:
    pace = [(b + 1) / seconds for b, seconds in enumerate(times)]
    return [one / max(pace) for one in pace]
