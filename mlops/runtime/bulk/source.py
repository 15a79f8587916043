"""What every kind of data file gives when it is read, and what a row is that cannot be read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO, Any, Protocol

MAX_LINE_BYTES = 4 << 20
SHOWN_CHARACTERS = 2_000  # of a line that cannot be read
BLOCK_BYTES = 1 << 18


@dataclass(slots=True)
class Bad:
    """A row that could not be read."""

    code: str
    message: str
    text: str = ""
    line: int | None = None


class Source(Protocol):
    """An open file. ``take`` gives the next rows (a ``Bad`` in place of one that cannot be read), an empty list at the end."""

    total: int | None

    def take(self, most: int, most_bytes: int) -> list[Any]: ...

    def cursor(self) -> dict[str, int]: ...

    def share(self) -> float: ...


def opened(content: str | bytes) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb", buffering=BLOCK_BYTES)  # noqa: SIM115  lives as long as its source
