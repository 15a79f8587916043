"""SHA-256 that can be put down and taken up again: its state is 112 bytes that fit into a row between two requests.

hashlib keeps its state to itself. OpenSSL's older functions, which hashlib's own library carries, keep theirs in plain memory. Where
they are not to be had (``AVAILABLE`` is false) a file that came in pieces is read once more at its end.
"""

from __future__ import annotations

import _hashlib
import ctypes
import hashlib

_STATE_BYTES = 112  # sizeof(SHA256_CTX): 8 words, two counters, a block of 16 words, two more counters


class Sha256:
    """Like ``hashlib.sha256()``, with ``state()``, and ``Sha256(state)`` to go on from it (on the same kind of machine)."""

    def __init__(self, state: str = "") -> None:
        self._context = ctypes.create_string_buffer(_STATE_BYTES)
        if state:
            self._context.raw = bytes.fromhex(state)
        else:
            _library.SHA256_Init(self._context)

    def update(self, chunk: bytes) -> None:
        _library.SHA256_Update(self._context, chunk, ctypes.c_size_t(len(chunk)))  # without the GIL, like hashlib

    def state(self) -> str:
        return self._context.raw.hex()

    def hexdigest(self) -> str:
        copy = ctypes.create_string_buffer(self._context.raw, _STATE_BYTES)
        digest = ctypes.create_string_buffer(32)
        _library.SHA256_Final(digest, copy)
        return digest.raw.hex()


def _works() -> bool:
    """Whether the functions are there and give what hashlib gives, also over a state that was put down."""
    try:
        first = Sha256()
        first.update(b"put down " * 20)
        second = Sha256(first.state())
        second.update(b"and taken up")
        return second.hexdigest() == hashlib.sha256(b"put down " * 20 + b"and taken up").hexdigest()
    except (AttributeError, OSError, TypeError):
        return False


try:
    _library = ctypes.CDLL(_hashlib.__file__)
except (AttributeError, OSError):  # built into the interpreter
    _library = ctypes.CDLL(None)
AVAILABLE = _works()
