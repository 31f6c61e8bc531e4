"""Who may ask a server, whatever the transport."""

from pathlib import Path

import pytest

from exitkit.errors import ConfigError
from exitkit.serve.access import Access, Forbidden, Unauthorized, is_loopback
from exitkit.serve.settings import Settings

BUNDLE = (Path("bundle"),)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("192.0.2.1", False), ("8.8.8.8", False)],
)  # fmt: skip
def test_only_loopback_addresses_are_this_machine_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 300, "..", ""])
def test_an_unknown_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="is unknown"):
        is_loopback(host)


def test_a_server_that_anybody_can_reach_says_so_at_its_start() -> None:
    warning = Access(Settings(BUNDLE, host="0.0.0.0")).warning()
    assert warning is not None
    assert warning.startswith("warning: everybody who reaches 0.0.0.0 can use this server")
    assert Access(Settings(BUNDLE, host="0.0.0.0", token="x")).warning() is None
    assert Access(Settings(BUNDLE)).warning() is None


def admitted(access: Access, header: str | None) -> bool:
    try:
        access.admit(header)
    except Unauthorized:
        return False
    return True


@pytest.mark.parametrize("header", [None, "", "Bearer anything", "nonsense"])
def test_without_a_token_everybody_is_admitted(header: str | None) -> None:
    assert admitted(Access(Settings(BUNDLE)), header)
    assert not admitted(Access(Settings(BUNDLE, token="secret")), header)


def test_with_a_token_only_its_holders_are() -> None:
    access = Access(Settings(BUNDLE, token="secret"))
    access.admit("Bearer secret")
    with pytest.raises(Unauthorized, match="it brings no token"):
        access.admit(None)
    with pytest.raises(Unauthorized, match="its token is another one"):
        access.admit("Bearer secrets")


def test_one_of_several_workers_loads_nothing_by_itself() -> None:
    Access(Settings(BUNDLE)).control()
    with pytest.raises(Forbidden, match=r"one of 2 workers.*send SIGHUP to the server"):
        Access(Settings(BUNDLE, workers=2)).control()


@pytest.mark.parametrize("token", ["", "two words", "tab\t", "line\n", "ümlaut", "nul\0"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="a token"):
        Settings(BUNDLE, token=token)
