"""Who may use the server: plain sockets and clients that are no browser."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from viewing import connected, scene

from splat.core.errors import SplatError
from splat.viewer.access import Access, exposure, link, listen, ssh_line
from splat.viewer.server import Viewer

websockets = pytest.importorskip("websockets")


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    with Viewer(port=0) as running:
        running.session.show(scene(tmp_path_factory.mktemp("viewer")))
        yield running


def request(viewer: Viewer, path: str, *headers: str, token: bool = True, host: str | None = None) -> tuple[int, bytes]:
    """Status and body of a GET by a plain socket; 0 where the server just closes."""
    query = f"?token={viewer.access.token}" if token else ""
    lines = [f"GET {path}{query} HTTP/1.1", f"Host: {host or f'127.0.0.1:{viewer.port}'}", *headers, "", ""]
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as s:
        s.sendall("\r\n".join(lines).encode())
        answer = b""
        while part := s.recv(1 << 16):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split()[1]) if head else 0), body


def test_it_listens_on_loopback_alone(viewer: Viewer) -> None:
    assert viewer._socket.getsockname()[0] == "127.0.0.1"
    assert not viewer.warning


@pytest.mark.parametrize("path", ["/", "/viewer.js", "/style.css", "/photo/0"])
def test_the_page_and_the_photos_are_served(viewer: Viewer, path: str) -> None:
    status, body = request(viewer, path)
    assert status == 200 and len(body) > 100


@pytest.mark.parametrize("path", ["/", "/viewer.js", "/photo/0", "/saved/0", "/nothing"])
def test_without_the_token_nothing_is(viewer: Viewer, path: str) -> None:
    assert request(viewer, path, token=False)[0] == 403
    assert request(viewer, f"{path}?token=wrong", token=False)[0] == 403
    assert request(viewer, f"{path}?token=", token=False)[0] == 403
    assert request(viewer, f"{path}?token=%ff%00", token=False)[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "", "["])
def test_a_foreign_host_is_refused(viewer: Viewer, host: str) -> None:
    assert request(viewer, "/", host=host or " ")[0] in {0, 400, 403}


def test_a_tunnel_may_have_another_port(viewer: Viewer) -> None:
    assert request(viewer, "/", host="localhost:9999")[0] == 200
    assert request(viewer, "/", "Origin: http://localhost:9999", host="localhost:9999")[0] == 200


def test_two_hosts_are_no_host(viewer: Viewer) -> None:
    assert request(viewer, "/", "Host: evil.example")[0] == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "file://", None])
def test_the_socket_is_for_our_own_page(viewer: Viewer, origin: str | None) -> None:
    with pytest.raises(websockets.exceptions.InvalidStatus) as e, connected(viewer, origin=origin):
        pass
    assert e.value.response.status_code == 403


def test_the_socket_needs_the_token(viewer: Viewer) -> None:
    for token in ("", "wrong", viewer.access.token[:-1]):
        with pytest.raises(websockets.exceptions.InvalidStatus), connected(viewer, token=token):
            pass


@pytest.mark.parametrize(
    "path",
    [
        *("/photo/99", "/photo/-1", "/photo/1e0", "/photo/%30", "/photo/\u0660", "/photo/00000000000000000"),
        *("/photo/0/..", "/photo/../../etc/passwd", "/photo//etc/passwd", "/licenses/three.txt"),
        *("/saved/0", "/saved/../server.py", "/../server.py"),
    ],
)
def test_a_photo_is_an_index_and_never_a_path(viewer: Viewer, path: str) -> None:
    status, body = request(viewer, path)
    assert status in {0, 400, 404} and b"root:" not in body and b"import" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_only_get_is_answered(viewer: Viewer, method: str) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as s:
        s.sendall(f"{method} /?token={viewer.access.token} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert b" 200 " not in s.recv(1000)


@pytest.mark.parametrize("bytes_", [b"\x16\x03\x01", b"\0" * 4000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500, b""])
def test_noise_leaves_the_server_as_it_was(viewer: Viewer, bytes_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as s:
        s.sendall(bytes_)
    assert request(viewer, "/")[0] == 200


def test_the_page_may_load_nothing_from_elsewhere(viewer: Viewer) -> None:
    _, page = request(viewer, "/")
    assert b"http://" not in page and b"https://" not in page and b"__TOKEN__" not in page
    with socket.create_connection(("127.0.0.1", viewer.port), timeout=10) as s:
        s.sendall(f"GET /?token={viewer.access.token} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = s.recv(4000).lower()
    for rule in (b"default-src 'none'", b"frame-ancestors 'none'", b"referrer-policy: no-referrer", b"nosniff"):
        assert rule in head


def test_a_taken_port_names_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SplatError, match=rf"port {port} cannot be used .*--port \d+ is free"):
            listen("127.0.0.1", port)
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        assert first.getsockname()[1] != second.getsockname()[1], "by default the next that is free"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_host_of_another_machine_is_one_sentence(host: str) -> None:
    with pytest.raises(SplatError, match="--host"):
        listen(host, 0)


def test_host_says_what_it_opens_and_what_is_safer() -> None:
    said = exposure("0.0.0.0", 7007)
    assert "everyone" in said and "unencrypted" in said and ssh_line(7007) in said
    assert exposure("127.0.0.1", 7007) == ""
    assert link("0.0.0.0", 7007, "t") == "http://127.0.0.1:7007/?token=t"
    assert link("::1", 7007, "t") == "http://[::1]:7007/?token=t"


def test_an_open_server_answers_to_addresses_but_to_no_foreign_name() -> None:
    access = Access("0.0.0.0", "t")
    assert access.refusal("/?token=t", "192.168.1.5:7007", None, False) is None
    assert access.refusal("/?token=t", "evil.example:7007", None, False) is not None
    assert access.refusal("/?token=t", "192.168.1.5:7007", "http://192.168.1.5:7007", True) is None
    assert access.refusal("/?token=t", "192.168.1.5:7007", "http://192.168.1.6:7007", True) is not None


def test_tokens_differ_and_cannot_be_guessed() -> None:
    tokens = {Access("127.0.0.1").token for _ in range(50)}
    assert len(tokens) == 50 and min(map(len, tokens)) >= 20


def test_closing_frees_the_port(tmp_path: Path) -> None:
    viewer = Viewer(port=0)
    viewer.close()
    time.sleep(0.05)
    listen("127.0.0.1", viewer.port).close()
