"""The models of one server by name: load, swap and unload them while requests run; no HTTP inside.

A model is taken with `use`, which holds it: a model that was swapped or unloaded goes on until
everybody has let go of it, and only then is its scheduler closed. So no request is ever dropped.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as brief  # names that clients send may be long

from exitkit.errors import ExitkitError, RequestError
from exitkit.serve import memory
from exitkit.serve.limits import Limits
from exitkit.serve.metrics import Metrics
from exitkit.serve.scheduling.requests import Closing
from exitkit.serve.service import Service

logger = logging.getLogger(__name__)

# Every model has one version: a bundle is one network with one policy.
VERSION = "1"
Prepare = Callable[[Path], Service]
Shelf = Callable[[], Mapping[str, Path]]


class UnknownModel(RequestError):
    """A model or version that this server does not have."""

    status = 404


class NotLoaded(RequestError):
    """A model that this server knows, but that does not answer now."""

    status = 503


class LoadFailed(RequestError):
    """A bundle that cannot be served; what served before goes on."""


@dataclass(frozen=True)
class Entry:
    """One model of the repository.

    Attributes:
        name: of its bundle's folder.
        state: LOADING, READY, UNLOADING or UNAVAILABLE.
        reason: why it is not ready, or why the last load of it failed.
    """

    name: str
    state: str
    reason: str = ""


class _Held:
    """A service and how many requests hold it."""

    def __init__(self, service: Service) -> None:
        self.service, self.users = service, 0


class Models:
    """All models of a server.

    Args:
        names: to be loaded by `start`; the first answers where no model is named.
        shelf: tells which bundles there are, name to folder; asked again at every load.
        prepare: loads a bundle, warms and measures it.
        limits: of the server.
        metrics: of the server.

    All methods may be called from any thread. `load` and `unload` block.
    """

    def __init__(
        self, names: tuple[str, ...], shelf: Shelf, prepare: Prepare, limits: Limits,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self.names, self.limits, self.metrics = names, limits, metrics
        self.drained: bool | None = None
        self.held_back = False  # until others that serve with this server are ready too
        self._shelf, self._prepare = shelf, prepare
        self._held: dict[str, _Held] = {}
        self._entries = {name: Entry(name, "LOADING") for name in names}
        self._change = threading.Condition()
        self._one = threading.Lock()  # one load or unload at a time
        self._drain_began: float | None = None
        self._uses = 0

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome: every model that was asked for is there."""
        with self._change:
            loading = any(entry.state == "LOADING" for entry in self._entries.values())
            return self._drain_began is None and not loading and not self.held_back

    @property
    def loaded(self) -> list[str]:
        """Names of the models that answer, without a look at the shelf."""
        with self._change:
            return sorted(self._held)

    @property
    def draining(self) -> bool:
        """Whether the server is stopping."""
        return self._drain_began is not None

    @contextlib.contextmanager
    def use(self, name: str | None = None, version: str | None = None) -> Iterator[Service]:
        """Hold a model while the block runs; None: the first of the server.

        Raises:
            UnknownModel: no such model or version.
            NotLoaded: it is loading, or was unloaded.
        """
        # Not refused while draining: whoever has come so far was accepted, and is answered.
        with self._change:
            held = self._find(name, version)
            held.users += 1
            self._uses += 1
        try:
            yield held.service
        finally:
            with self._change:
                held.users -= 1
                self._change.notify_all()

    def get(self, name: str | None = None, version: str | None = None) -> Service:
        """Return a model to read from; what is to answer images is taken with `use`.

        Raises:
            UnknownModel, NotLoaded: as `use`.
        """
        with self._change:
            return self._find(name, version).service

    def is_ready(self, name: str, version: str | None = None) -> bool:
        """Return whether a model takes requests.

        Raises:
            UnknownModel: no such model or version.
        """
        try:
            self.get(name, version)
        except NotLoaded:
            return False
        return not self.draining

    def index(self) -> list[Entry]:
        """Return every model that is served or could be loaded, by name."""
        shelf = self._shelf()
        with self._change:
            known = {name: Entry(name, "UNAVAILABLE", "not loaded") for name in shelf}
            return [entry for _, entry in sorted({**known, **self._entries}.items())]

    def start(self) -> None:
        """Load the models that were asked for, unless the server stops before.

        Raises:
            ExitkitError: the first that could not be loaded.
        """
        for name in self.names:
            with self._one:
                if self.draining:
                    return
                self._load(name, self._shelf()[name])

    def load(self, name: str) -> None:
        """Load a model from the shelf; one that serves is replaced once the new one is warm.

        Raises:
            UnknownModel: not on the shelf.
            LoadFailed: the bundle cannot be served; what served before goes on.
        """
        with self._one:
            if self.draining:
                raise Closing("a request", "the server is stopping", "ask another one")
            shelf = self._shelf()
            if name not in shelf:
                raise self._unknown(name)
            with self._change:
                if name not in self._held and len(self._held) >= self.limits.models:
                    raise LoadFailed(
                        f"model {name!r}",
                        f"{len(self._held)} models are loaded, the limit is {self.limits.models}",
                        "unload one first",
                    )
            try:
                self._load(name, shelf[name])
            except ExitkitError as error:
                raise LoadFailed(f"model {name!r}", f"cannot be served ({error})",
                                 "what served before goes on") from error  # fmt: skip
            memory.give_back()

    def reload(self) -> list[str]:
        """Load every model anew that serves; say what came of each. Only what loads is replaced."""
        said = []
        for name in self.loaded:
            try:
                self.load(name)
                said.append(f"reloaded: model {name!r}")
            except RequestError as error:
                said.append(f"not reloaded: {error}")
            except Exception as error:
                logger.exception("%s was not reloaded", name)
                said.append(f"not reloaded: model {name!r}: {error}; what served before goes on")
        return said

    def unload(self, name: str) -> None:
        """Take a model away: new requests for it are refused, those that run are answered.

        Raises:
            UnknownModel: no such model.
        """
        with self._one:
            with self._change:
                held = self._held.pop(name, None)
                if held is None and name not in self._entries and name not in self._shelf():
                    raise self._unknown(name)
                state = "UNLOADING" if held else "UNAVAILABLE"
                self._entries[name] = Entry(name, state, "unloaded")
            if held is not None:
                self._retire(held)
                self.metrics.forget(name)
                del held  # it is the last to know it
                memory.give_back()
            with self._change:
                self._entries[name] = Entry(name, "UNAVAILABLE", "unloaded")

    def drain(self) -> None:
        """Be ready no more; the limit's `drain_s` begins. From any thread, more than once."""
        if self._drain_began is None:
            self._drain_began = time.monotonic()

    def stop(self) -> bool:
        """Finish what was accepted; return whether all of it was within `drain_s`."""
        self.drain()
        end = (self._drain_began or 0.0) + self.limits.drain_s
        with self._change:
            services = [held.service for held in self._held.values()]
        done = [service.stop(max(0.0, end - time.monotonic())) for service in services]
        self.drained = all(done) and time.monotonic() <= end
        return self.drained

    def give_up(self) -> None:
        """Answer what waits with an error, now."""
        with self._change:
            services = [held.service for held in self._held.values()]
        for service in services:
            service.scheduler.close(0.0)

    def _load(self, name: str, folder: Path) -> None:
        with self._change:
            if name not in self._held:
                self._entries[name] = Entry(name, "LOADING")
            uses = self._uses
        try:
            service = self._prepare(folder)
        except Exception as error:
            with self._change:
                state = "READY" if name in self._held else "UNAVAILABLE"
                self._entries[name] = Entry(name, state, f"the last load failed: {error}")
            raise
        service.start(self.metrics)
        with self._change:
            service.measured_beside(self._uses - uses)
            old = self._held.get(name)
            self._held[name] = _Held(service)
            self._entries[name] = Entry(name, "READY")
        if old is not None:
            self._retire(old)

    def _retire(self, held: _Held) -> None:
        """Close a model that no new request can find, once those that hold it are answered."""
        with self._change:
            self._change.wait_for(lambda: held.users == 0, self.limits.drain_s)
        if not held.service.stop(self.limits.drain_s):
            logger.warning("%s: not everything was answered", held.service.manifest.name)

    def _find(self, name: str | None, version: str | None) -> _Held:
        name = self.names[0] if name is None else name
        if version not in (None, VERSION):
            raise UnknownModel(f"version {brief(version)}", "not here", f"this is {VERSION!r}")
        if name in self._held:
            return self._held[name]
        entry = self._entries.get(name)
        if entry is None:
            raise self._unknown(name)
        raise NotLoaded(f"model {name!r}", entry.reason or "is loading", "load it, or ask later")

    def _unknown(self, name: str) -> UnknownModel:
        here = ", ".join(sorted({*self._entries, *self._held})) or "none"
        return UnknownModel(f"model {brief(name)}", "not here", f"these are: {here}")
