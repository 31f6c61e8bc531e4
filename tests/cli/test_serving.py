"""What is typed after `exitkit serve`: which settings it becomes, and what is refused."""

from pathlib import Path

import pytest

from exitkit.cli import serving
from exitkit.errors import ConfigError
from exitkit.serve.limits import Limits

from .conftest import Exitkit


@pytest.mark.parametrize(
    ("port", "asked", "none", "taken"),
    [(8000, None, False, 8001), (0, None, False, 0), (8000, 9000, False, 9000),
     (8000, 0, False, 0), (8000, None, True, None)],
)  # fmt: skip
def test_grpc_is_beside_http_unless_told_otherwise(
    port: int, asked: int | None, none: bool, taken: int | None
) -> None:
    assert serving.grpc_port(port, asked, none) == taken


def test_a_port_that_none_follows_says_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match="no port follows it for gRPC; give --grpc-port, or --no-"
    ):
        serving.grpc_port(65535, None, none=False)
    assert serving.grpc_port(65535, 9000, none=False) == 9000
    assert serving.grpc_port(65535, None, none=True) is None


def test_a_port_for_no_grpc_is_refused() -> None:
    with pytest.raises(ConfigError, match="--grpc-port 9: --no-grpc stands beside it"):
        serving.grpc_port(8000, 9, none=True)


def test_the_token_comes_from_a_file_or_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert serving.token(None, "A_TOKEN") is None
    assert serving.token(file, "A_TOKEN") == "from-file"
    monkeypatch.setenv("A_TOKEN", "from-environment")
    assert serving.token(None, "A_TOKEN") == "from-environment"
    with pytest.raises(ConfigError, match="A_TOKEN is set as well; leave one out"):
        serving.token(file, "A_TOKEN")


def test_a_token_file_that_holds_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        serving.token(tmp_path / "none", "A_TOKEN")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ConfigError, match="is empty; write the token into it"):
        serving.token(tmp_path / "empty", "A_TOKEN")


def test_limits_are_assigned_by_name() -> None:
    assert serving.limits([]) == Limits()
    assert serving.limits(["queue=4096", " drain_s = 2.5"]) == Limits(queue=4096, drain_s=2.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (["queue"], "--limit queue: has no =; write --limit name=value"),
        (["queu=1"], "limit 'queu': no such limit; did you mean 'queue'?"),
        (["queue=9", "queue=9"], "queue is given twice"),
        (["queue=1.5"], "'1.5' is not a whole number"),
        (["drain_s=soon"], "'soon' is not a number"),
        (["batch=0"], "limit batch=0: is not above zero"),
    ],
)
def test_wrong_limits_are_refused(text: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        serving.limits(text)
    assert says in str(caught.value)


def test_the_help_shows_every_option_under_a_heading(exitkit: Exitkit) -> None:
    text = exitkit("serve", "--help").out
    places = [text.index(f"{name}:\n") for name in ("answers", "reach it", "runs", "Others")]
    assert places == sorted(places)
    assert places[1] < text.index("--token-file FILE") < places[2]
    assert text.index("--help") > places[3]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--grpc-port", "99999"], "port 99999: no such port"),
        (["--certificate", "c.pem"], "a certificate without its key, or a key alone"),
        (["--workers", "0"], "0 workers: nobody would answer"),
        (["--threshold", "1.5"], "threshold 1.5: is not from 0 to 1"),
        (["--log", "xml"], "log 'xml': no such log; choose one of: json, quiet, text"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(
    words: list[str], says: str, exitkit: Exitkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    said = exitkit("serve", "bundle", *words)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
