"""The page, live, on this machine only: an HTTP server that reads and changes nothing.

GET /?token=…         the token becomes a cookie, and the browser goes on to /
GET /                 the page
GET /events?version=… server-sent events: what has changed since; all of it, if that is not the page that we know
GET /details/<id>     what there is to tell of a realization
GET /running/<digest> the ends of the logs of what is being realized

It listens on 127.0.0.1, wants the token or its cookie, and answers only to its own name: a site whose name somebody
has made lead here is refused (DNS rebinding). A change is seen by looking at the store from time to time, and only
while somebody watches.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bridge.formats.errors import BridgeError

from .page import difference
from .render import html_of

__all__ = ["Server", "View"]

_SHORTEST = 0.3
"""Seconds between two looks at the store; longer where a look takes long."""
_SHARE = 10
_BEAT = 10.0
"""Seconds after which a watcher is sent something, so that one who has gone is noticed."""


@dataclass(frozen=True, slots=True)
class View:
    """What is served; called by one thread at a time.

    Parameters
    ----------
    page
        The page's JSON as it is now.
    stamp
        What is another value whenever the page may be another; cheap.
    detail
        What there is to tell of the realization with an id; None if there is none.
    logs
        The ends of the logs of the derivation with a digest that is being realized.
    """

    page: Callable[[], Mapping[str, Any]]
    stamp: Callable[[], Hashable]
    detail: Callable[[str], Mapping[str, Any] | None]
    logs: Callable[[str], list[str]]


class Server(ThreadingHTTPServer):
    """Serves a view until `shutdown`; `url` is what its user opens."""

    daemon_threads = True

    def __init__(self, view: View, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.token = secrets.token_urlsafe(32)
        self.hosts = {f"127.0.0.1:{self.server_port}", f"localhost:{self.server_port}"}
        self.cookie = f"nixbridge-{self.server_port}"
        self._view = view
        self._lock = threading.Lock()
        self._stamp: Hashable = None
        self._page: dict[str, Any] | None = None
        self._looked = 0.0
        self._pause = _SHORTEST

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def page(self) -> dict[str, Any]:
        """The page's JSON with its version; made again only if there may be something new. All share one look."""
        with self._lock:
            now = time.monotonic()
            if self._page is None or now - self._looked >= self._pause:
                stamp = self._view.stamp()
                if self._page is None or stamp != self._stamp:
                    # With the stamp of before: what changes meanwhile is seen the next time.
                    version = 1 + (self._page["version"] if self._page is not None else 0)
                    self._page, self._stamp = {**self._view.page(), "version": version}, stamp
                self._looked = time.monotonic()
                self._pause = max(_SHORTEST, _SHARE * (self._looked - now))
            return self._page

    def wait(self) -> None:
        """Until it is time to look again."""
        time.sleep(self._pause)

    def detail(self, identity: str) -> Mapping[str, Any] | None:
        with self._lock:
            return self._view.detail(identity)

    def logs(self, digest: str) -> list[str]:
        with self._lock:
            return self._view.logs(digest)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is no error; anything else is shown as Python does."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "nixbridge"
    sys_version = ""
    timeout = 60

    def do_GET(self) -> None:
        try:
            address = urlsplit(self.path)
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is no address")
            return
        if self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        elif self._is_token(*parse_qs(address.query).get("token", [])) and address.path == "/":
            self._enter()
        elif not self._is_known():
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that nixbridge ui printed: it has a token")
        else:
            self._answer(address.path, parse_qs(address.query))

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, path: str, query: Mapping[str, list[str]]) -> None:
        kind, _, name = path.removeprefix("/").partition("/")
        try:
            if path == "/":
                self._send(html_of(self.server.page()).encode(), "text/html; charset=utf-8")
            elif path == "/events":
                self._follow(self.headers.get("Last-Event-ID") or query.get("version", [""])[0])
            elif kind == "details" and (found := self.server.detail(name)) is not None:
                self._send(json.dumps(found).encode(), "application/json")
            elif kind == "running" and name.isalnum():
                self._send(json.dumps(self.server.logs(name)).encode(), "application/json")
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        except BridgeError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))

    def _is_token(self, *given: str) -> bool:
        return any(hmac.compare_digest(one.encode(errors="replace"), self.server.token.encode()) for one in given)

    def _is_known(self) -> bool:
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _enter(self) -> None:
        """Have the browser keep the token, and not show it."""
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.send_header("Set-Cookie", f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Lax")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _follow(self, version: str) -> None:
        """Tell what is not as in the version that a browser has, and what changes, until it goes away."""
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        sent = self.server.page()
        self.wfile.write(b":\n\n")
        if str(sent["version"]) != version:
            self._event("whole", sent["version"], sent)
        last = time.monotonic()
        while True:
            self.server.wait()
            with contextlib.suppress(BridgeError):
                page = self.server.page()
                change = None if page is sent else difference(sent, page)
                sent = page
                if change is not None:
                    self._event("change", page["version"], change)
                    last = time.monotonic()
            if time.monotonic() - last > _BEAT:
                self.wfile.write(b":\n\n")
                last = time.monotonic()

    def _event(self, name: str, version: int, data: Mapping[str, Any]) -> None:
        self.wfile.write(f"id: {version}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(f"{why}\n".encode(), "text/plain; charset=utf-8", status)

    def _send(self, data: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is the user's."""
