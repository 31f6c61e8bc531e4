"""What a server can be told, and what it refuses to be told."""

from pathlib import Path
from typing import Any

import pytest

from exitkit.errors import ConfigError
from exitkit.serve.limits import Limits
from exitkit.serve.settings import Settings

BUNDLES = (Path("bundle"),)


def test_without_more_it_serves_this_machine_over_plain_http() -> None:
    told = Settings(BUNDLES)
    assert (told.host, told.port, told.grpc_port) == ("127.0.0.1", 8000, None)
    assert (told.token, told.certificate, told.workers) == (None, None, 1)
    assert told.limits == Limits()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"port": -1}, "port -1: no such port; choose one from 0 to 65535"),
        ({"grpc_port": 65536}, "port 65536: no such port"),
        ({"threshold": 1.1}, "threshold 1.1: is not from 0 to 1"),
        ({"threshold": float("nan")}, "threshold nan: is not from 0 to 1"),
        ({"accuracy_floor": -0.1}, "accuracy floor -0.1: is not from 0 to 1"),
        ({"certificate": Path("c")}, "TLS: a certificate without its key, or a key alone"),
        ({"workers": 0}, "0 workers: nobody would answer; give 1 or more"),
        ({"log": "xml"}, "log 'xml': no such log"),
        ({"token": ""}, "a token: "),
    ],
)
def test_what_cannot_be_is_refused(told: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(BUNDLES, **told)
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Settings(BUNDLES, token="secret"))
