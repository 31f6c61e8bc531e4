"""Ports are taken once, and said to be taken by the option that names them."""

import socket
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from exitkit.errors import ConfigError
from exitkit.serve import ports, run
from exitkit.serve.settings import Settings


def grpc_server(place: str) -> grpc.Server:
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 1)])
    server.add_insecure_port(place)
    server.start()
    return server


def test_a_reserved_port_is_refused_to_everybody_but_grpc() -> None:
    with ports.reserve("127.0.0.1", 0) as held:
        port = held.getsockname()[1]
        for take in (ports.reserve, ports.listen):
            with (
                pytest.raises(ConfigError, match=f"port {port} is in use"),
                take("127.0.0.1", port),
            ):
                pass
        server = grpc_server(ports.place(held))
        with grpc.insecure_channel(ports.place(held)) as channel:
            grpc.channel_ready_future(channel).result(timeout=10)
        server.stop(0).wait()


def test_a_second_grpc_server_is_refused_although_the_first_would_share() -> None:
    with ports.reserve("127.0.0.1", 0) as held:
        server, place = grpc_server(ports.place(held)), held.getsockname()
    with pytest.raises(ConfigError) as caught, ports.reserve(*place):
        pass
    assert str(caught.value) == (
        f"address 127.0.0.1:{place[1]}: port {place[1]} is in use; "
        "choose another --grpc-port, or --grpc-port 0"
    )
    server.stop(0).wait()


def test_a_grpc_port_in_use_is_said_before_a_model_is_looked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use; choose another --grpc-port"):
            run(Settings((tmp_path / "no-bundle",), port=0, grpc_port=port))


def test_a_port_is_free_again_although_old_connections_linger() -> None:
    with ports.reserve("127.0.0.1", 0) as held:
        place = held.getsockname()
        server = grpc_server(ports.place(held))
        with grpc.insecure_channel(ports.place(held)) as channel:
            grpc.channel_ready_future(channel).result(timeout=10)
            server.stop(0).wait()  # the server closes first, so its end of the connection lingers
    with ports.reserve(*place), pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind(place)
    with ports.listen(*place) as taken:
        assert ports.place(taken) == f"127.0.0.1:{place[1]}"
