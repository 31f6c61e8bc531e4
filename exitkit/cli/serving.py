"""From what was typed after `exitkit serve` to the settings of a server."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from exitkit.errors import ConfigError, unknown
from exitkit.serve.limits import Limits
from exitkit.serve.replicas import REQUESTS, Replicas, parse
from exitkit.serve.settings import LAST_PORT, Settings


def grpc_port(port: int, asked: int | None, none: bool) -> int | None:
    """Return the port of gRPC: what was asked for, or the one after HTTP's; None for none.

    Raises:
        ConfigError: a port and none were asked for, or there is none after the last.
    """
    if none and asked is not None:
        raise ConfigError(f"--grpc-port {asked}", "--no-grpc stands beside it", "leave one out")
    if none or asked is not None:
        return asked
    if port == LAST_PORT:
        raise ConfigError(
            f"--port {port}", "no port follows it for gRPC", "give --grpc-port, or --no-grpc"
        )
    return port + 1 if port else 0


def replicas(on_ray: bool, number: str | None, requests: int | None) -> Replicas | None:
    """Return how many replicas there are on Ray; None without Ray.

    Raises:
        ConfigError: replicas without Ray, or no number of them.
    """
    if on_ray:
        number = "1" if number is None else number
        return parse(number, REQUESTS if requests is None else requests)
    if number is not None or requests is not None:
        raise ConfigError("replicas", "are for Ray", "add --ray, or take --workers")
    return None


def runner(settings: Settings) -> Callable[..., None]:
    """Return what runs a server with these settings: `run(settings, echo)`.

    Raises:
        ConfigError: Ray is asked for and not installed.
    """
    if settings.replicas is None:
        from exitkit.serve import process

        return process.run
    try:
        from exitkit.serve import ray
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--ray", f"{error.name} is not installed", 'pip install "exitkit[ray]"'
        ) from error
    return ray.run


def token(file: Path | None, variable: str) -> str | None:
    """Return the token in a file or in an environment variable; None where there is none.

    Raises:
        ConfigError: both are there, or the file cannot be read or is empty.
    """
    held = os.environ.get(variable)
    if file is None:
        return held
    if held is not None:
        raise ConfigError(f"--token-file {file}", f"{variable} is set as well", "leave one out")
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file {file}", f"cannot be read ({error})", "write the token into it"
        ) from error
    if not found:
        raise ConfigError(f"--token-file {file}", "is empty", "write the token into it")
    return found


def limits(assignments: Iterable[str]) -> Limits:
    """Return the limits, the assigned ones instead of their defaults.

    Raises:
        ConfigError: an assignment without "=", an unknown name, one given twice, no number.
    """
    # Any: the type int or float
    kinds: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(Limits)}
    given: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"--limit {text}", "has no =", "write --limit name=value")
        if name not in kinds:
            raise unknown("limit", name, kinds)
        if name in given:
            raise ConfigError(f"--limit {text}", f"{name} is given twice", "say it once")
        try:
            given[name] = kinds[name](value)
        except ValueError as error:
            kind = "a whole number" if kinds[name] is int else "a number"
            raise ConfigError(f"--limit {text}", f"{value!r} is not {kind}", "give one") from error
    return Limits(**given)
