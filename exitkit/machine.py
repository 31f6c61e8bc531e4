"""What a measurement was made on: processor, cores, versions, commit."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy")


def describe() -> dict[str, str | int]:
    """Return processor, usable cores, system, Python and the versions of what computes."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def fingerprint() -> str:
    """Return 12 hexadecimal digits that change when timings of this machine may change."""
    text = json.dumps(describe(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_folder() -> Path:
    """Return exitkit's folder in the user's cache directory; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "exitkit"


def commit() -> str:
    """Return the commit of the checkout that exitkit runs from, or "" for an installed package."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return ""
    done = subprocess.run(
        ["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
