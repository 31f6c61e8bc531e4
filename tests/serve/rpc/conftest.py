"""One server for the tests of this folder, and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from calling import Address, serve


@pytest.fixture(scope="session")
def both(colours: Path) -> Iterator[Address]:
    """Serve the quick bundle over HTTP and gRPC."""
    with serve(colours) as address:
        yield address


@pytest.fixture
def client(both: Address) -> Iterator[triton.InferenceServerClient]:
    """Return Triton's client of that server."""
    with triton.InferenceServerClient(both.grpc) as found:
        yield found


@pytest.fixture
def channel(both: Address) -> Iterator[grpc.Channel]:
    """Return a plain channel to that server."""
    with grpc.insecure_channel(both.grpc) as found:
        yield found
