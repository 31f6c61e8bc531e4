"""grpc.health.v1, which orchestrators probe; a client that would watch is told to poll."""

from typing import Any

from google.protobuf import descriptor_pool

from exitkit.errors import RequestError
from exitkit.serve.models import Models
from exitkit.serve.rpc import descriptors
from exitkit.serve.rpc.calls import Context
from exitkit.serve.rpc.messages import Fields

SERVICE = "grpc.health.v1.Health"
MESSAGES: dict[str, Fields] = {
    "HealthCheckRequest": {"service": ("string", 1)},
    "HealthCheckResponse": {"status": ("ServingStatus", 1)},
}
ENUMS = {"ServingStatus": ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")}
CLASSES = descriptors.build(descriptor_pool.DescriptorPool(), "grpc.health.v1", MESSAGES, ENUMS)


class UnknownService(RequestError):
    """A service that this server does not have."""

    status = 404


class Health:
    """Tells whether a server is ready.

    Args:
        models: of the server.
        services: that it has, by their full names; "" stands for all.
    """

    def __init__(self, models: Models, services: tuple[str, ...]) -> None:
        self.models, self.services = models, services

    async def check(self, message: Any, context: Context) -> Any:
        """Answer a HealthCheckRequest.

        Raises:
            UnknownService: it asks for another service.
        """
        if message.service not in ("", *self.services):
            choices = ", ".join(self.services)
            raise UnknownService(
                f"service {message.service[:80]!r}", "not here", f"these are: {choices}"
            )
        state = "SERVING" if self.models.ready else "NOT_SERVING"
        return CLASSES["HealthCheckResponse"](status=state)
