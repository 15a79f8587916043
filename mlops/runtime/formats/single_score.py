"""A network with one score per row: is that a probability, or what comes before the sigmoid? Its file does not say.

The rows of one request cannot tell: a logit of 0.3 looks like a probability. So the network is asked rows of noise, small and huge ones,
when it describes itself: one that ends in a sigmoid never leaves [0, 1], a logit does. The schema keeps what was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mlops.runtime.formats.slots import Slot

_ROWS, _FEW_ROWS = 32, 4
# How large the noise, how many rows: most networks are left alone after the first.
_TRIES = ((1.0, 2), (1.0, _ROWS), (30.0, _ROWS), (1000.0, _ROWS))
_SMALL_ROW = 4096  # numbers: of larger rows, pictures, few are asked
_FREE = 16  # how long a side is whose length is free


def activation_of(scores: Callable[[list[np.ndarray]], Any], slots: Sequence[Slot], batch: int) -> str | None:
    """What must be done with its score: "sigmoid" or "none"; None where it has not one score per row, or does not take noise.

    ``scores`` gives the network's answer to an array per slot; ``batch``: how many rows it takes at a time, 0 for any.
    """
    if not slots or any(slot.dtype == "object" for slot in slots):
        return None
    random = np.random.default_rng(7)
    most = _ROWS if all(math.prod(map(abs, slot.shape[1:])) <= _SMALL_ROW for slot in slots) else _FEW_ROWS
    for scale, rows in _TRIES:
        feeds = [_noise(slot, batch or min(rows, most), scale, random) for slot in slots]
        try:
            answer = np.asarray(scores(feeds))
        except Exception:  # noqa: BLE001  a network may refuse noise: then its answers are judged as they come
            return None
        if answer.dtype.kind != "f" or answer.shape not in ((len(feeds[0]),), (len(feeds[0]), 1)):
            return None
        if ((answer < 0) | (answer > 1)).any():
            return "sigmoid"
    # A few small ids prove nothing: only numbers are as large as one likes.
    return "none" if any(np.dtype(slot.dtype).kind == "f" for slot in slots) else None


def _noise(slot: Slot, rows: int, scale: float, random: np.random.Generator) -> np.ndarray:
    sides = [side if side > 0 else _FREE for side in slot.shape[1:]]
    if np.dtype(slot.dtype).kind == "f":
        return (random.standard_normal((rows, *sides)) * scale).astype(slot.dtype)
    return random.integers(0, 2, (rows, *sides)).astype(slot.dtype)  # ids: small ones are in every vocabulary
