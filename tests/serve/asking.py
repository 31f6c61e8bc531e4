"""Clients that ask without a pause, while a test does something to their server."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
from waiting import wait_for

ASKERS = 6


class Asked:
    """What came of it.

    Attributes:
        came: how often: "200 red" (the status, and the label if it is the picture's name), "200 red
            for blue" (another one's), "broken", "no connection".
        exits: that answered.
    """

    def __init__(self) -> None:
        self.came: Counter[str] = Counter()
        self.exits: set[int] = set()

    def ask(self, client: httpx.Client, url: str, name: str, picture: bytes) -> None:
        """Ask once."""
        try:
            response = client.post(f"{url}/predict", files={"file": picture})
        except httpx.ConnectError:
            self.came["no connection"] += 1
            time.sleep(0.05)
        except httpx.TransportError:
            self.came["broken"] += 1
        else:
            answer = response.json()
            label = answer.get("label")
            self.came[
                f"{response.status_code} {label}{'' if label == name else f' for {name}'}"
            ] += 1
            if "exit" in answer:
                self.exits.add(answer["exit"])

    def wait_for(self, more: int) -> None:
        """Wait until as many more have come back."""
        end = self.came.total() + more
        wait_for(lambda: self.came.total() >= end)


@contextlib.contextmanager
def asked(url: str, **pictures: bytes) -> Iterator[Asked]:
    """Ask for pictures by the names of their labels in turn, each round on a new connection."""
    found, over = Asked(), threading.Event()

    def ask() -> None:
        while not over.is_set():
            with httpx.Client(timeout=60) as client:
                for name, picture in [*pictures.items()] * 3:
                    found.ask(client, url, name, picture)

    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [pool.submit(ask) for _ in range(ASKERS)]
        try:
            yield found
        finally:
            over.set()
    for one in asking:
        one.result()
