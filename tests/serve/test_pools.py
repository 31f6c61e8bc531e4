"""Which kind of thread pool serves."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from exitkit.errors import ConfigError
from exitkit.serve import pools
from exitkit.serve.settings import Settings


def test_both_kinds_are_measured_outside_this_process(colours: Path) -> None:
    kind, tried = pools.choose(colours, Settings((colours,), threads=1))
    assert set(tried) == {"private", "shared"}
    assert all(ms > 0 for ms in tried.values())
    faster = tried["shared"] < pools.WORTH * tried["private"]
    assert kind == ("shared" if faster else "private")


def test_a_process_that_measured_both_has_lost_the_private_kind(colours: Path) -> None:
    """Why a child measures: without this, loading a model anew would fail."""
    code = (
        "import sys\n"
        "from exitkit.engine import model\n"
        "from exitkit.serve import pools\n"
        "pools.measure(sys.argv[1], None, 1)\n"
        "model.load(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(colours)], capture_output=True, text=True, check=False
    )
    assert "global thread pool" in done.stderr


def test_what_is_asked_for_is_not_tried(colours: Path) -> None:
    settings = Settings((colours,), pool="shared")
    assert pools.choose(colours, settings) == ("shared", {})
    assert pools.choose(colours, replace(settings, pool="auto", provider="cuda")) == ("private", {})
    with pytest.raises(ConfigError, match="private, shared"):
        pools.choose(colours, replace(settings, pool="privat"))


def test_a_trial_that_fails_is_said_and_the_private_pool_serves(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert pools.choose(tmp_path / "none", Settings((tmp_path,))) == ("private", {})
    assert "were not measured" in caplog.text
    assert "run exitkit export" in caplog.text


def test_the_trial_speaks_json(colours: Path) -> None:
    told = json.dumps([str(colours), 0.9, 1])
    done = subprocess.run(
        [sys.executable, "-m", "exitkit.serve.pools", told],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) == {"private", "shared"}
