"""HTTPS with a certificate of its own, and certificates that cannot be used."""

import socket
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from certificates import Pair, make

from exitkit.errors import ConfigError
from exitkit.serve import server, tls
from exitkit.serve.limits import Limits
from exitkit.serve.settings import Settings

Paint = Callable[..., bytes]


def settings(pair: Pair) -> Settings:
    return Settings((Path("bundle"),), certificate=pair[0], key=pair[1])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("tls"))


def test_it_answers_over_https_and_says_so(colours: Path, pair: Pair, paint: Paint) -> None:
    trusted = ssl.create_default_context(cafile=pair[0])
    with server(colours, certificate=pair[0], key=pair[1], threads=1) as url:
        assert url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=trusted, base_url=url) as client:
            for _ in range(2):
                answer = client.post("/predict", files={"file": paint(250, 5, 5)})
                assert answer.raise_for_status().json()["label"] == "red"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/v2/health/live", verify=ssl.create_default_context())
        with pytest.raises(httpx.TransportError):  # plain HTTP is not spoken here
            httpx.get(f"{url.replace('https', 'http')}/v2/health/live")


def test_old_versions_of_tls_are_refused(colours: Path, pair: Pair) -> None:
    old = ssl.create_default_context(cafile=pair[0])
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of setting what is old
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with server(colours, certificate=pair[0], key=pair[1], threads=1) as url:
        port = int(url.rsplit(":", 1)[1])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            pytest.raises(ssl.SSLError),
        ):
            old.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_handshake_that_does_not_come_is_given_up(colours: Path, pair: Pair) -> None:
    limits = Limits(head_s=0.3)
    with (
        server(colours, certificate=pair[0], key=pair[1], limits=limits, threads=1) as url,
        socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as half,
    ):
        half.sendall(b"\x16\x03\x01")
        assert half.recv(100) == b""


def test_certificates_that_cannot_be_used_are_refused(tmp_path: Path, pair: Pair) -> None:
    other = make(tmp_path / "other")
    secret = make(tmp_path / "secret", password=b"pass phrase")
    (tmp_path / "garbage").write_text("no certificate")
    for wrong, says in (
        ((pair[0], other[1]), "KEY_VALUES_MISMATCH"),
        ((tmp_path / "none", pair[1]), "No such file"),
        ((tmp_path / "garbage", pair[1]), "cannot be used"),
        (secret, "cannot be used"),
    ):
        with pytest.raises(ConfigError, match=says) as caught:
            tls.read(settings(wrong))
        assert str(caught.value).endswith("which has no pass phrase")


def test_one_half_of_a_pair_is_refused() -> None:
    for half in ({"certificate": Path("c")}, {"key": Path("k")}):
        with pytest.raises(ConfigError, match="a certificate without its key, or a key alone"):
            Settings((Path("bundle"),), **half)
    assert tls.read(Settings((Path("bundle"),))) is None
