"""The gate before every route: who has no token stays outside, and so do foreign web pages."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from exitkit.serve.access import Access, Forbidden
from exitkit.serve.web import errors, pages
from exitkit.serve.web.bodies import Application, Message, Receive, Send

# Without a token: whether the server lives, for probes that have none, and the files of the page,
# which hold no data and ask for it.
OPEN = frozenset(
    {"/", "/docs", "/v2/health/live", "/v2/health/ready"}
    | {f"/page/{name}" for name in pages.ASSETS}
)
CONTROL = "/v2/repository/models/"
# What a browser says of a request that no foreign page began.
OWN = ("same-origin", "none")


class Security:
    """ASGI layer that refuses who may not ask (401), and what nobody may ask from there (403)."""

    def __init__(self, app: Application, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
            try:
                self._check(path, Headers(raw=scope["headers"]))
            except errors.RequestError as error:
                await errors.answer(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        if path not in OPEN:
            self.access.admit(headers.get("authorization"))
        if path.startswith(CONTROL):
            self.access.control()
            self._require_own_page(headers)

    def _require_own_page(self, headers: Headers) -> None:
        """Refuse what a web page of somebody else has this machine's browser ask.

        Such a page may not read answers, but unloading a model takes none. Its name may even have
        been pointed at this machine after it was loaded, so that it counts as the server's own.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        foreign = headers.get("sec-fetch-site", "none") not in OWN
        if foreign or (origin is not None and urlsplit(origin).netloc != host):
            raise Forbidden(
                "loading and unloading models from a web page",
                f"the page is not this server's (origin {origin or 'of another site'})",
                "ask without a browser, or from a page of this server",
            )
        if host and not self.access.guarded and not _plain(host, self.access.host):
            raise Forbidden(
                "loading and unloading models",
                f"the request is for host {host!r}, and the server has no token",
                "ask for 127.0.0.1 or localhost, or start it with a token",
            )


def _plain(host: str, own: str) -> bool:
    """Return whether a Host header names an address, this machine, or what was listened on."""
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name in (own.lower(), "localhost") or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
