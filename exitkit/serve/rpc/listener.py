"""The port of gRPC: from its start to an end at which everything accepted is answered."""

import asyncio
import logging
from types import TracebackType

import grpc
import grpc.aio

from exitkit.errors import EngineError
from exitkit.serve.access import Access
from exitkit.serve.intake import Held
from exitkit.serve.models import Models
from exitkit.serve.rpc import health, methods
from exitkit.serve.rpc.calls import Calls
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.settings import Settings

logger = logging.getLogger(__name__)


class Listener:
    """Serves the models of a process over gRPC while its `async with` block runs.

    Args:
        models: of the process.
        settings: of the server.
        place: host:port, held by `ports.reserve`.
        held: bytes of the requests of HTTP, and of ours.
    """

    def __init__(self, models: Models, settings: Settings, place: str, held: Held) -> None:
        self.models, self.settings, self.place, self.held = models, settings, place, held
        self._given_up = False
        self._calls: Calls
        self._server: grpc.aio.Server

    async def __aenter__(self) -> "Listener":
        """Open the port.

        Raises:
            EngineError: it cannot be opened after all.
        """
        limits = self.settings.limits
        self._calls = Calls(Access(self.settings), self.models.metrics, limits, self.held)
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limits.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 1),  # with whoever holds the port for us
                # A message is unpacked before its size is looked at: 64 MB could become 64 GB.
                ("grpc.compression_enabled_algorithms_bitset", 1),
                # Who has vanished without a word is noticed, and costs no more.
                ("grpc.keepalive_time_ms", round(limits.stall_s * 1e3)),
            ],
            maximum_concurrent_rpcs=limits.connections,
        )
        tell = health.Health(self.models, (methods.SERVICE,))
        check = self._calls.unary("Check", health.CLASSES["HealthCheckRequest"], tell.check)
        handlers = {
            methods.SERVICE: methods.Methods(self.models, self._calls).handlers(),
            health.SERVICE: {"Check": check},
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(*row) for row in handlers.items()]
        )
        self._open()
        await self._server.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Answer what was accepted, then close; where the event loop is given up, just go."""
        if error is not None:
            return
        self.close()
        await self._answered()
        await self.end()

    def close(self) -> None:
        """Take nothing new: calls that come from now on get UNAVAILABLE."""
        self._calls.closing.set()

    async def end(self) -> None:
        """Close the port and all connections now; more than once."""
        # With a grace it would wait for idle clients to close their connections.
        await self._server.stop(None)

    def give_up(self) -> None:
        """Wait for no answer any more; from any thread."""
        self._given_up = True

    def _open(self) -> None:
        credentials = _credentials(self.settings)
        try:
            if credentials is None:
                self._server.add_insecure_port(self.place)
            else:
                self._server.add_secure_port(self.place, credentials)
        except RuntimeError as error:
            raise EngineError(
                f"gRPC on {self.place}", f"cannot be opened ({error})", "see the log"
            ) from error

    async def _answered(self) -> None:
        """Wait until every answer is sent, as long as an end may take."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.settings.limits.drain_s + LAST_RUN_S
        while self._calls.open and not self._given_up and loop.time() < end:
            await asyncio.sleep(0.01)
        if self._calls.open:
            logger.warning("%d calls were cut", self._calls.open)


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    if settings.certificate is None or settings.key is None:
        return None
    pair = settings.key.read_bytes(), settings.certificate.read_bytes()
    return grpc.ssl_server_credentials([pair])
