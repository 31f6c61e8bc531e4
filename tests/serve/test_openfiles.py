"""A server may open what its limits need, or does not start."""

import subprocess
import sys

import pytest

CODE = """
import resource, sys
from exitkit.errors import ConfigError
from exitkit.serve import openfiles
from exitkit.serve.limits import Limits
soft, hard = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    openfiles.allow(Limits(connections=500))
except ConfigError as error:
    print(error)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "says"),
    [
        (256, 4096, "1256 4096"),
        (2000, 4096, "2000 4096"),
        (
            256,
            1024,
            "500 connections: they may need 1256 open files, the system allows 1024; raise "
            "ulimit -n, or lower --limit connections\n256 1024",
        ),
    ],
)
def test_the_bound_is_raised_as_far_as_needed(soft: int, hard: int, says: str) -> None:
    command = [sys.executable, "-c", CODE, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == says
