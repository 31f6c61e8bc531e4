"""`exitkit serve --ray` on a cluster that runs already, and what is refused before and there."""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from clusters import folder, serving, started
from waiting import wait_for

from exitkit.errors import ConfigError
from exitkit.serve.replicas import Replicas, parse

RAY = str(Path(sys.executable).with_name("ray"))


def test_replicas_are_a_number_or_a_range() -> None:
    assert parse("2") == Replicas(2, 2)
    assert parse("1-4", 8) == Replicas(1, 4, 8)
    assert str(parse("1")) == "1 replica"
    assert str(parse("3")) == "3 replicas"
    assert str(parse("1-4", 8)) == "1 to 4 replicas, for 8 requests each"


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "replicas '': is no number"), ("two", "replicas 'two'"), ("1-", "replicas '1-'"),
     ("0", "0 to 0 replicas"), ("4-1", "4 to 1 replicas: .*; give a number")],
)  # fmt: skip
def test_other_replicas_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text)


def refused(*words: str, **environment: str) -> str:
    """Return what `exitkit serve` says when it refuses to start."""
    command = [sys.executable, "-m", "exitkit", "serve", *words]
    told = {**os.environ, **environment}
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_replicas_need_ray_and_ray_needs_no_other_processes(colours: Path) -> None:
    for words, says in (
        (("--replicas", "2"), "replicas: are for Ray; add --ray, or take --workers"),
        (("--ray", "--workers", "2"), "leave them out: there are replicas instead of workers"),
        (("--ray", "--grpc-port", "0"), "and HTTP alone"),
        (("--ray", "--replicas", "1-9999"), "that takes 9999 cores, this machine has "),
    ):
        assert says in refused(str(colours), *words, RAY_ADDRESS="local")


def test_without_ray_the_error_names_what_to_install(
    colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exitkit.cli import serving as typed
    from exitkit.serve.settings import Settings

    monkeypatch.delitem(sys.modules, "exitkit.serve.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"--ray: ray is not installed; pip .*exitkit\[ray\]"):
        typed.runner(Settings((colours,), replicas=Replicas()))


# One process, because Ray takes its time to be imported.
SCRIPT = """
import dataclasses, shutil, sys
from pathlib import Path
from exitkit.bundle import POLICY
from exitkit.errors import ExitkitError
from exitkit.serve.deployment import Identity

folder = Path(sys.argv[1])
here = Identity.here((folder,))
here.require((folder,))

def refused(identity):
    try:
        identity.require((folder,))
    except ExitkitError as error:
        print(error)

refused(dataclasses.replace(here, version="0.0.9"))
(folder / POLICY).write_text((folder / POLICY).read_text() + " ")
refused(here)
shutil.rmtree(folder)
refused(here)
"""


def test_a_node_with_another_bundle_or_version_is_refused(colours: Path, tmp_path: Path) -> None:
    copy = tmp_path / "colours"
    shutil.copytree(colours, copy)
    command = [sys.executable, "-c", SCRIPT, str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    version, other, missing = done.stdout.splitlines()
    assert version.startswith("exitkit 0.0.9: this node has ")
    assert other.startswith(f"{copy}: is not the bundle that the server was started with; put")
    assert missing.startswith(f"{copy}: cannot be read on this node (")


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_a_cluster_it_is_one_application_of_others(colours: Path) -> None:
    head = (RAY, "start", "--head", "--port=0", "--num-cpus=2", "--include-dashboard=false")
    with folder() as place:
        (place / ".ray").mkdir()
        (place / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        told = {"RAY_TMPDIR": str(place), "HOME": str(place), "RAY_AUTH_MODE": "token",
                "RAY_USAGE_STATS_ENABLED": "0"}  # fmt: skip
        with started(*head, "--block", **told) as cluster:
            where = place / "ray" / "ray_current_cluster"
            wait_for(lambda: where.is_file() and "raylet" in " ".join(cluster.family().values()))
            told["RAY_ADDRESS"] = where.read_text().strip()
            with serving(place, str(colours), **told) as (url, _):
                assert httpx.get(f"{url}/v2/health/ready").status_code == 200
                words = (str(colours), "--ray", "--port", "0")
                second = refused(*words, **told)
                assert "application 'exitkit' on Ray: there is one" in second
            left = " ".join(cluster.family().values())
            assert "gcs_server" in left
            assert "ServeReplica" not in left
            assert "ServeController" not in left
