"""Who may use the server: which names of this machine, which pages, which links; and on which port it listens."""

from __future__ import annotations

import getpass
import hmac
import ipaddress
import secrets
import socket
from urllib.parse import parse_qs, urlsplit

from splat.core.errors import SplatError
from splat.core.foreign import shown

LOOPBACK = "127.0.0.1"
PORT = 7007
_TRIES = 100


class Access:
    """The rules of one server.

    A browser sends the name that it asked for as Host, so a foreign name that was pointed at this machine (DNS
    rebinding) is known by it; the page that opens a socket as Origin, which must be one of ours; and the token, which
    only the printed link has.
    """

    def __init__(self, host: str, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(16)
        self.names = {"127.0.0.1", "localhost", "::1"}
        self._anything = False
        if host in {"", "0.0.0.0", "::"}:
            self._anything = True  # any address of this machine, but no foreign name
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        else:
            self.names.add(host.lower())

    def refusal(self, path: str, host: str | None, origin: str | None, socket_asked: bool) -> str | None:
        """Why a request is refused; None: it is not."""
        if host is None or not self._is_ours(name_of(host)):
            return "this server answers to other names: use the link that `splat` printed"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "another page may not use this server"
        if socket_asked and origin is None:
            return "a page of this server must open the socket"
        given = parse_qs(urlsplit(path).query).get("token", [""])[0]
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return "the link lacks its token: use the whole link that `splat` printed"
        return None

    def _is_ours(self, name: str) -> bool:
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._anything


def name_of(host: str) -> str:
    """`localhost:7007` -> `localhost`, `[::1]:7007` -> `::1`; in lower case."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def listen(host: str, port: int | None) -> socket.socket:
    """A listening socket. `port` None: `PORT`, or the next that is free; 0: any. Raises SplatError, naming a port that
    is free, where the one asked for is taken."""
    ports = range(PORT, PORT + _TRIES) if port is None else (port,)
    if port is not None and not 0 <= port <= 65535:
        raise SplatError(f"--port {port} does not exist: choose 1024 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reason = ""
    try:
        socket.getaddrinfo(host or None, 0, family)  # `create_server` does not tell an unknown name from a port in use
    except (OSError, UnicodeError):
        raise SplatError(f"--host {shown(host)} is no address of this machine: leave it out.") from None
    for candidate in ports:
        try:
            return socket.create_server((host, candidate), family=family, backlog=16)
        except OSError as e:
            reason = e.strerror or str(e)
    if port is None:
        raise SplatError(f"no port from {PORT} to {PORT + _TRIES - 1} is free ({reason}): choose one with --port.")
    try:
        with socket.create_server((host, 0), family=family) as free:
            other = free.getsockname()[1]
    except OSError:
        raise SplatError(f"--host {shown(host)} cannot be listened on ({reason}): leave it out.") from None
    raise SplatError(f"port {port} cannot be used ({reason}): --port {other} is free.")


def link(host: str, port: int, token: str) -> str:
    """What a browser is given."""
    name = {"0.0.0.0": LOOPBACK, "": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/?token={token}"


def ssh_line(port: int) -> str:
    """The command that reaches a server on another machine without opening it to others."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "USER"
    return f"ssh -N -L {port}:{LOOPBACK}:{port} {user}@{socket.gethostname()}"


def exposure(host: str, port: int) -> str:
    """What `--host` opens, in one sentence; empty on loopback."""
    if host in {LOOPBACK, "localhost", "::1"}:
        return ""
    return (
        f"--host {shown(host)}: everyone who reaches port {port} of this machine and has the link sees the photos and "
        f"the scene, unencrypted, and may edit and save; safer is `{ssh_line(port)}` without --host"
    )
