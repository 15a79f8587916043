"""Frames: what goes in comes out, and nothing a peer sends makes us wait, allocate or believe."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.runtime import wire


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def test_a_frame_arrives_as_it_was_sent(pair) -> None:
    left, right = pair
    wire.send(left, wire.pack(7, {"op": "predict", "ü": [1, None]}, b"\x00body", 200), soon())
    frame = wire.receive(right, soon())
    assert (frame.request_id, frame.status, frame.header, frame.body) == (
        7,
        200,
        {"op": "predict", "ü": [1, None]},
        b"\x00body",
    )


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(min_value=1, max_value=64))
def test_frames_in_any_pieces_are_put_together(bodies: list[bytes], piece: int) -> None:
    data = b"".join(wire.pack(number, {"n": number}, body) for number, body in enumerate(bodies))
    buffer = wire.FrameBuffer(1000)
    frames = [frame for start in range(0, len(data), piece) for frame in buffer.feed(data[start : start + piece])]
    assert [frame.body for frame in frames] == bodies
    assert [frame.header["n"] for frame in frames] == list(range(len(bodies)))


@pytest.mark.parametrize("body_len", [11, 2**32 - 1])
def test_a_length_over_the_cap_is_refused_before_it_is_read(pair, body_len: int) -> None:
    left, right = pair
    left.sendall(wire.HEAD.pack(wire.MAGIC, wire.VERSION, 0, 200, 1, 2, body_len) + b"{}")
    with pytest.raises(wire.FrameTooLarge):
        wire.receive(right, soon(), body_cap=10)
    with pytest.raises(wire.FrameTooLarge):
        wire.FrameBuffer(10).feed(wire.HEAD.pack(wire.MAGIC, wire.VERSION, 0, 200, 1, 2**31, 0))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        wire.HEAD.pack(wire.MAGIC, 99, 0, 200, 1, 2, 0) + b"{}",
        wire.HEAD.pack(wire.MAGIC, wire.VERSION, 0, 200, 1, 2, 0) + b"[]",
        wire.HEAD.pack(wire.MAGIC, wire.VERSION, 0, 200, 1, 4, 0) + b"nope",
        wire.pack(1, {}) + b"more than the frame",
    ],
)
def test_anything_that_is_not_a_frame_is_refused(pair, data: bytes) -> None:
    left, right = pair
    left.sendall(data)
    with pytest.raises(wire.WireError):
        wire.receive(right, soon())


def test_a_peer_that_leaves_inside_a_frame_is_told_from_one_that_leaves_before(pair) -> None:
    left, right = pair
    left.sendall(wire.pack(1, {}, b"abc")[:-1])
    left.shutdown(socket.SHUT_WR)
    with pytest.raises(wire.PeerClosed) as inside:
        wire.receive(right, soon())
    with pytest.raises(wire.PeerClosed) as before:
        wire.receive(right, soon())
    assert (inside.value.partial, before.value.partial) == (True, False)


def test_a_peer_that_drips_bytes_does_not_extend_the_deadline(pair) -> None:
    left, right = pair
    stop = threading.Event()

    def drip() -> None:
        for byte in wire.pack(1, {}, b"x" * 10_000):
            if stop.wait(0.01):
                return
            left.send(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    with pytest.raises(TimeoutError):
        wire.receive(right, soon(0.2))
    assert thread.is_alive()  # most of the frame was still to come
    stop.set()
    thread.join()


def test_a_socket_path_longer_than_the_kernel_takes_works(tmp_path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = str(folder / "runnerd.sock")
    with wire.listen(path) as listener, wire.connect(path, 5) as client:
        server, _ = listener.accept()
        with server:
            wire.send(client, wire.pack(1, {"hello": True}), soon())
            assert wire.receive(server, soon()).header == {"hello": True}


def test_listening_replaces_a_stale_socket_and_nobody_else_may_connect(tmp_path) -> None:
    path = tmp_path / "s.sock"
    wire.listen(str(path)).close()
    with wire.listen(str(path)), wire.connect(str(path), 5):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_there_can_be_connected_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the moment between its name and its first backlog."""
    path, seen = str(tmp_path / "s"), []
    renamed = os.rename
    monkeypatch.setattr(os, "rename", lambda new, at: seen.append(os.path.lexists(at)) or renamed(new, at))
    with wire.listen(path), wire.connect(path, 5):
        assert seen == [False]
        assert os.stat(path).st_mode & 0o777 == 0o600
    with wire.listen(path), wire.connect(path, 5):  # a stale one is replaced
        assert os.listdir(tmp_path) == ["s"]
