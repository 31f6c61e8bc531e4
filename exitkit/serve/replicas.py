"""How many replicas of a server Ray keeps, as one record that knows no Ray."""

import re
from dataclasses import dataclass

from exitkit.errors import ConfigError

REQUESTS = 32


@dataclass(frozen=True)
class Replicas:
    """How far a server on Ray is scaled out.

    Attributes:
        least: replicas that there always are.
        most: replicas that there are under load; as many as `least`: their number is fixed.
        requests: that Ray wants each replica to have in hand, where their number is not fixed. One
            full batch by default: with fewer, a replica computes batches that are not full.
    """

    least: int = 1
    most: int = 1
    requests: int = REQUESTS

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ConfigError(
                f"{self.least} to {self.most} replicas",
                "nobody would answer, or there are fewer at most than at least",
                "give a number such as 2, or a range such as 1-4",
            )
        if self.requests < 1:
            raise ConfigError(
                f"{self.requests} requests a replica",
                "no number of replicas would reach that",
                "give 1 or more",
            )

    @property
    def fixed(self) -> bool:
        """Whether load changes nothing."""
        return self.least == self.most

    def __str__(self) -> str:
        if self.fixed:
            return f"{self.least} replica{'s' if self.least > 1 else ''}"
        return f"{self.least} to {self.most} replicas, for {self.requests} requests each"


def parse(text: str, requests: int = REQUESTS) -> Replicas:
    """Read "2" or "1-4".

    Raises:
        ConfigError: anything else.
    """
    found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
    if found is None:
        raise ConfigError(f"replicas {text!r}", "is no number and no range", "give, say, 2 or 1-4")
    least, most = found.groups()
    return Replicas(int(least), int(most or least), requests)
