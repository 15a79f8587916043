"""The only way out of a build: a proxy on loopback that lets an installer through to the package index's hosts and to nobody else.

It resolves the names itself, so that an installer needs no name service, and refuses addresses inside our own network unless somebody
wrote such an index into the settings. What goes through a tunnel is the installer's TLS; plain HTTP is passed on for plain indexes.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import selectors
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from mlops.runtime.environments.index import Index

_HEAD_BYTES, _PIECE_BYTES, _CONNECT_S, _IDLE_S = 16 << 10, 64 << 10, 20.0, 60.0
_CONNECTIONS = 64
_INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3",
        "::/128", "::1/128", "fc00::/7", "fe80::/10", "ff00::/8",
    )
]  # fmt: skip


class Refused(Exception):
    """Where an installer may not go."""


class Gate:
    """Open while a build runs: ``with Gate(index) as gate: ... gate.port``. ``refused`` are the places it did not let through."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=_CONNECTIONS)
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.port = int(self._listening.getsockname()[1])
        self.refused: list[str] = []
        self.received_bytes = 0

    def __enter__(self) -> Gate:
        threading.Thread(target=self._accept, name="package-gate", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listening.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(target=self._serve, args=(client,), name="package-gate-call", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._held(client):
                client.settimeout(_IDLE_S)
                self._pass_on(client)
        except OSError:
            pass  # one side went away: the installer tries again or says so
        finally:
            self._places.release()

    @contextlib.contextmanager
    def _held(self, connection: socket.socket) -> Iterator[socket.socket]:
        with self._lock:
            self._open.add(connection)
        try:
            yield connection
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _pass_on(self, client: socket.socket) -> None:
        head, rest = _head(client)
        first = head.split(b"\r\n", 1)[0].decode("latin-1")
        method, target, _ = (first.split(" ") + ["", ""])[:3]
        tunnel = method.upper() == "CONNECT"
        try:
            if not first.isprintable():  # a line's end in it would be another line to the next proxy
                raise Refused("that is no request")
            parts = urlsplit(f"//{target}" if tunnel else target)
            host, port = (parts.hostname or "").lower(), parts.port or (443 if tunnel else 80)
            upstream = self._reach(host, port, tunnel=tunnel)
        except (Refused, ValueError) as error:
            client.sendall(_answer(403, str(error)))
            return
        except OSError as error:
            client.sendall(_answer(502, f"{target[:200]}: {error}"))
            return
        with self._held(upstream):
            upstream.settimeout(_IDLE_S)
            if tunnel:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upstream.sendall(rest)
            else:
                upstream.sendall(self._plain(method, target, parts.path, parts.query, parts.netloc, head) + rest)
            self._carry(client, upstream)

    def _plain(self, method: str, target: str, path: str, query: str, netloc: str, head: bytes) -> bytes:
        """One request without the proxy's words, and the connection closed after it: the next one is judged again."""
        place = target if self._index.proxy else (path or "/") + (f"?{query}" if query else "")
        kept = [
            line
            for line in head.split(b"\r\n")[1:]
            if line and not line.lower().startswith((b"proxy-", b"connection:", b"host:"))
        ]
        words = [f"{method} {place} HTTP/1.1".encode(), f"Host: {netloc.rpartition('@')[2]}".encode(), *kept]
        return b"\r\n".join([*words, *self._proxy_words(), b"Connection: close", b"", b""])

    def _reach(self, host: str, port: int, *, tunnel: bool) -> socket.socket:
        """A connection to ``host``, or to the machine's own proxy when there is one. Raises Refused, OSError."""
        if not self._index.reaches(host, port):
            self.refused.append(f"{host}:{port}")
            where = f"{host}:{port} is not a place" if host in self._index.allowed else f"{host} is not a host"
            raise Refused(f"{where} of the package index")
        if self._index.proxy:
            return self._through_proxy(host, port, tunnel=tunnel)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        inside = [str(row[4][0]) for row in found if _is_inside(str(row[4][0]))]
        if inside and host in self._index.unwritten:
            self.refused.append(f"{host}:{port}")
            raise Refused(f"{host} has the address {inside[0]}, inside our own network")
        return _first(found)

    def _through_proxy(self, host: str, port: int, *, tunnel: bool) -> socket.socket:
        parts = urlsplit(self._index.proxy)
        upstream = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_CONNECT_S)
        if not tunnel:
            return upstream
        words = [f"CONNECT {host}:{port} HTTP/1.1".encode(), f"Host: {host}:{port}".encode(), *self._proxy_words()]
        upstream.sendall(b"\r\n".join([*words, b"", b""]))
        head, _ = _head(upstream)
        said = head.split(b"\r\n", 1)[0]
        if b" 200" not in said:
            upstream.close()
            raise OSError(f"the machine's proxy said {said[:100]!r}")
        return upstream

    def _proxy_words(self) -> list[bytes]:
        parts = urlsplit(self._index.proxy)
        if not parts.username:
            return []
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return [b"Proxy-Authorization: Basic " + base64.b64encode(pair.encode())]

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        """Bytes both ways until one side ends or nothing moves for a minute."""
        with selectors.DefaultSelector() as ready:
            ready.register(one, selectors.EVENT_READ, other)
            ready.register(other, selectors.EVENT_READ, one)
            while events := ready.select(_IDLE_S):
                for key, _ in events:
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(_PIECE_BYTES)
                    if not data:
                        return
                    key.data.sendall(data)
                    if source is other:
                        self.received_bytes += len(data)


def _is_inside(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in network for network in _INSIDE if network.version == found.version)


def _first(found: list[tuple[Any, ...]]) -> socket.socket:
    """The addresses that were judged, one after the other: the name is not resolved again."""
    failure: OSError = OSError("it has no address")
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(_CONNECT_S)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """(the head of a message, what came after it). Raises OSError when there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_PIECE_BYTES)
        data += piece
        if not piece or len(data) > _HEAD_BYTES:
            raise OSError("no request")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _answer(status: int, text: str) -> bytes:
    words = {403: "Forbidden", 502: "Bad Gateway"}[status]
    body = text.encode("utf-8", "replace")[:500]
    head = f"HTTP/1.1 {status} {words}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
