"""Length-prefixed frames between processes: a fixed head, a JSON header, raw bytes. Never pickle.

Head (24 bytes, network order): magic ``SLW1``, version u8, reserved u8, status u16, request id u64, header length u32, body length u32.
Every length is checked against a cap before anything is read, so a hostile peer can make us neither wait for ever nor allocate.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any, NamedTuple

import orjson

from mlops.runtime.limits import CONTROL_BYTES, HEADER_BYTES

MAGIC, VERSION = b"SLW1", 1
HEAD = struct.Struct("!4sBBHQII")
_RECEIVE_BYTES = 256 * 1024
_SOCKET_PATH_BYTES = 100  # sun_path has 108; longer paths go through a descriptor of their folder


class WireError(Exception):
    """The peer sent something that is not a frame, or went away inside one."""


class FrameTooLarge(WireError):
    """A length in the head is over the cap."""


class PeerClosed(WireError):
    """The peer closed the connection; ``partial`` says whether inside a frame."""

    def __init__(self, *, partial: bool) -> None:
        super().__init__("closed inside a frame" if partial else "closed")
        self.partial = partial


class Frame(NamedTuple):
    """One message. ``status`` is 0 in requests and HTTP-like in replies."""

    request_id: int
    status: int
    header: dict[str, Any]
    body: bytes


def pack(request_id: int, header: dict[str, Any], body: bytes = b"", status: int = 0) -> bytes:
    """The frame's bytes."""
    head_json = orjson.dumps(header)
    return b"".join((HEAD.pack(MAGIC, VERSION, 0, status, request_id, len(head_json), len(body)), head_json, body))


def parse_head(
    head: bytes | bytearray | memoryview, body_cap: int, header_cap: int = HEADER_BYTES, start: int = 0
) -> tuple[int, int, int, int]:
    """(status, request id, header bytes, body bytes) of a 24-byte head; WireError when it is not one, FrameTooLarge over a cap."""
    magic, version, _, status, request_id, header_len, body_len = HEAD.unpack_from(head, start)
    if magic != MAGIC or version != VERSION:
        raise WireError("not a Slipway frame")
    if header_len > header_cap or body_len > body_cap:
        raise FrameTooLarge(f"a frame of {header_len} + {body_len} bytes is over its cap of {header_cap} + {body_cap}")
    return status, request_id, header_len, body_len


def parse_header(raw: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The JSON header; WireError unless it is an object."""
    try:
        header = orjson.loads(raw)
    except ValueError as error:
        raise WireError("the header is not JSON") from error
    if not isinstance(header, dict):
        raise WireError("the header is not an object")
    return header


class FrameBuffer:
    """Bytes of one connection as they come; whole frames as they are complete (for event loops)."""

    def __init__(self, body_cap: int) -> None:
        self._data = bytearray()
        self._wanted = HEAD.size  # bytes without which there is no use in looking
        self._body_cap = body_cap

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes; raises WireError on anything that cannot be one."""
        if self._data:  # the rest of a frame that came in pieces
            self._data += data
            if len(self._data) < self._wanted:
                return []
            data, self._data = bytes(self._data), bytearray()
        frames, start, size = [], 0, len(data)
        self._wanted = HEAD.size
        while size - start >= HEAD.size:
            status, request_id, header_len, body_len = parse_head(data, self._body_cap, start=start)
            middle = start + HEAD.size + header_len
            end = middle + body_len
            if size < end:
                self._wanted = end - start
                break
            frames.append(Frame(request_id, status, parse_header(data[start + HEAD.size : middle]), data[middle:end]))
            start = end
        if start < size:
            self._data += data[start:]
        return frames


def send(sock: socket.socket, data: bytes, deadline: float) -> None:
    """Send everything before ``deadline`` (time.monotonic); TimeoutError after it."""
    view = memoryview(data)
    while view:
        sock.settimeout(_left(deadline))
        view = view[sock.send(view) :]


def receive(
    sock: socket.socket, deadline: float, body_cap: int = CONTROL_BYTES, header_cap: int = HEADER_BYTES
) -> Frame:
    """One frame before ``deadline`` (time.monotonic), however slowly the peer drips.

    Raises TimeoutError, PeerClosed, FrameTooLarge or WireError.
    """
    sock.settimeout(_left(deadline))
    data = bytearray(sock.recv(_RECEIVE_BYTES))
    if not data:
        raise PeerClosed(partial=False)
    while len(data) < HEAD.size:
        _more(sock, data, deadline)
    status, request_id, header_len, body_len = parse_head(data, body_cap, header_cap)
    total = HEAD.size + header_len + body_len
    while len(data) < total:
        _more(sock, data, deadline)
    if len(data) > total:
        raise WireError("more bytes than the frame has")
    start = HEAD.size + header_len
    return Frame(request_id, status, parse_header(bytes(data[HEAD.size : start])), bytes(data[start:]))


def _more(sock: socket.socket, data: bytearray, deadline: float) -> None:
    sock.settimeout(_left(deadline))
    chunk = sock.recv(_RECEIVE_BYTES)
    if not chunk:
        raise PeerClosed(partial=True)
    data += chunk


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("deadline")
    return left


def connect(path: str, timeout_s: float) -> socket.socket:
    """A connected unix socket; works for paths longer than the kernel's 107 bytes. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_s)
    try:
        _through_folder(path, sock.connect)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(path: str, backlog: int = 128) -> socket.socket:
    """A listening unix socket at ``path`` (mode 0600), replacing a stale one: whoever sees the path can connect. Raises OSError."""
    new = f"{path}.new"
    if os.path.lexists(new):
        os.unlink(new)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _through_folder(new, sock.bind)
        os.chmod(new, 0o600)
        sock.listen(backlog)
        os.rename(new, path)
    except BaseException:
        sock.close()
        raise
    return sock


def _through_folder(path: str, use: Any) -> None:
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        use(path)
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)
