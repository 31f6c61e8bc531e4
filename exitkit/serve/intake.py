"""Bodies of requests, whatever they come by: how slowly they may come, how many bytes are held."""

from exitkit.errors import Overloaded, RequestError

# A body of b bytes may keep the server waiting for b / RATE seconds on top of the limit.
RATE = 256 * 2**10


class TooSlow(RequestError):
    """A body that did not come in time, or an answer that was not read."""

    status = 408


class Held:
    """Bytes of all requests that are being read or answered, over HTTP and gRPC together.

    Args:
        most: that there may be.

    Attributes:
        count: that there are.
    """

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0

    def add(self, count: int) -> None:
        """Count bytes that are kept in memory.

        Raises:
            Overloaded: they are more than all requests together may have.
        """
        if self.count + count > self.most:
            raise Overloaded(
                f"{count} bytes of a request",
                f"{self.count} are held for other requests, the limit is {self.most}",
                "come again after the seconds in Retry-After",
                1.0,
            )
        self.count += count

    def drop(self, count: int) -> None:
        """Count them no more."""
        self.count -= count
