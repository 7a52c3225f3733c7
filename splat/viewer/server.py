"""One port for the page and its socket, in a thread of its own. A browser that is slow or gone is dropped, and never
waited for by anything but its own task."""

from __future__ import annotations

import asyncio
import gzip
import importlib.util
import json
import mimetypes
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from splat.core.errors import SplatError
from splat.core.foreign import shown
from splat.geometry.page import bundled
from splat.viewer.access import Access, exposure, link, listen
from splat.viewer.browser import Browser
from splat.viewer.pictures import photo_jpeg
from splat.viewer.protocol import MAX_MESSAGE
from splat.viewer.session import Session

MAX_BROWSERS = 16
TEXT = "text/plain; charset=utf-8"
PAGE = ("index.html", "viewer.js", "style.css")
POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; worker-src blob:; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self' ws: data: blob:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


class Viewer:
    """A running server. `session` is what it shows; `url` what a browser opens."""

    def __init__(self, host: str = "127.0.0.1", port: int | None = None, token: str | None = None) -> None:
        """Listens at once. Raises SplatError where it cannot (see `access.listen`), or without the library."""
        if importlib.util.find_spec("websockets") is None:
            raise SplatError("the viewer needs the package websockets: pip install websockets.")
        self._socket = listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.access = Access(host, token)
        self.url = link(host, self.port, self.access.token)
        self.warning = exposure(host, self.port)
        """What `host` opens, in one sentence; empty on loopback."""
        self.session = Session()
        self.session.changed = self._wake
        self.session.steering.watched_by(lambda: self.browsers > 0)
        self.browsers = 0
        self.visits = 0
        """Browsers that have been there."""
        self._loop = asyncio.new_event_loop()
        self._clients: set[Browser] = set()
        self._work = ThreadPoolExecutor(1, "viewer-draw")
        self._slow = ThreadPoolExecutor(1, "viewer-video")
        self._stop = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="viewer", daemon=True)
        self._thread.start()
        started.wait(10)

    def close(self) -> None:
        """End the server; browsers say that the connection is lost."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(5)
        for executor in (self._work, self._slow):
            executor.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ inside its thread

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve(started))
        finally:
            started.set()
            self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        from websockets.asyncio.server import serve

        logger = _quiet_logger()
        async with serve(
            self._connected,
            sock=self._socket,
            process_request=self._answer,
            max_size=MAX_MESSAGE,
            max_queue=8,
            compression=None,
            open_timeout=10,
            ping_interval=10,
            ping_timeout=20,
            close_timeout=2,
            server_header=None,
            logger=logger,
        ):
            started.set()
            await self._stop.wait()

    def _wake(self) -> None:
        def wake() -> None:
            for client in self._clients:
                client.wake.set()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(wake)

    async def _answer(self, connection: Any, request: Any) -> Any:
        """Everything but the socket: the page and the photos."""
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        path = urlsplit(request.path).path
        asks_socket = path == "/socket"
        host, origin = hosts[0] if len(hosts) == 1 else None, ",".join(origins) if origins else None
        refusal = self.access.refusal(request.path, host, origin, asks_socket)
        if refusal is not None:
            return _response(HTTPStatus.FORBIDDEN, refusal.encode(), TEXT)
        if getattr(request, "method", "GET") != "GET":
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, b"only GET", TEXT)
        if asks_socket:
            if len(self._clients) >= MAX_BROWSERS:
                return _response(HTTPStatus.SERVICE_UNAVAILABLE, b"too many browsers", TEXT)
            return None
        name = path.lstrip("/") or "index.html"
        if name in PAGE:
            body = bundled(name)
            if name == "index.html":
                body = body.replace(b"__TOKEN__", self.access.token.encode())
            packed = "gzip" in request.headers.get("Accept-Encoding", "") and name == "viewer.js"
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            return _response(HTTPStatus.OK, gzipped(name) if packed else body, f"{kind}; charset=utf-8", packed)
        kind, _, number = name.partition("/")
        if kind in {"photo", "saved"} and number.isascii() and number.isdigit() and len(number) < 7:
            return await self._loop.run_in_executor(None, partial(self._file, kind, int(number)))
        return _response(HTTPStatus.NOT_FOUND, b"there is nothing of this name", TEXT)

    def _file(self, kind: str, number: int) -> Any:
        scene = self.session.scene
        try:
            if kind == "saved":
                path = self.session.saved[number]
                name = json.dumps(path.name.encode("ascii", "replace").decode())
                return _response(HTTPStatus.OK, path.read_bytes(), "application/octet-stream", attachment=name)
            if scene is None:
                raise IndexError(number)
            return _response(HTTPStatus.OK, photo_jpeg(scene, number), "image/jpeg")
        except IndexError:
            return _response(HTTPStatus.NOT_FOUND, b"there is no such file", TEXT)
        except Exception as e:  # the photo was moved or changed
            return _response(
                HTTPStatus.NOT_FOUND, f"it cannot be read: {shown(e)}".encode(), "text/plain; charset=utf-8"
            )

    async def _connected(self, connection: Any) -> None:
        client = Browser(self.session, connection, self._loop, self._work, self._slow)
        self._clients.add(client)
        self.browsers, self.visits = len(self._clients), self.visits + 1
        try:
            await client.run()
        finally:
            self._clients.discard(client)
            self.browsers = len(self._clients)


def _response(status: HTTPStatus, body: bytes, kind: str, packed: bool = False, attachment: str | None = None) -> Any:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    headers = Headers(
        {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Connection": "close",
            "Cache-Control": "no-store",
            "Content-Security-Policy": POLICY,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
    )
    if packed:
        headers["Content-Encoding"] = "gzip"
    if attachment is not None:
        headers["Content-Disposition"] = f"attachment; filename={attachment}"
    return Response(status.value, status.phrase, headers, body)


@cache
def gzipped(name: str) -> bytes:
    return gzip.compress(bundled(name), 6)


def _quiet_logger() -> Any:
    """Strangers who knock at the port are no news for the terminal."""
    import logging

    logger = logging.getLogger("splat.viewer")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
