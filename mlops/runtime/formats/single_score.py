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

_SCALES = (1.0, 30.0, 1000.0)
_ROWS, _FEW_ROWS = 32, 4
_SMALL_ROW = 4096  # numbers: of larger rows, pictures, few are asked
_FREE = 16  # how long a side is whose length is free


def activation_of(scores: Callable[[list[np.ndarray]], Any], slots: Sequence[Slot], batch: int) -> str | None:
    """What must be done with its score: "sigmoid" or "none"; None where it has not one score per row, or does not take noise.

    ``scores`` gives the network's answer to an array per slot; ``batch``: how many rows it takes at a time, 0 for any.
    """
    if not slots or any(slot.dtype == "object" for slot in slots):
        return None
    random, found = np.random.default_rng(7), None
    for scale in _SCALES:
        feeds = [_noise(slot, batch, scale, random) for slot in slots]
        try:
            answer = np.asarray(scores(feeds))
        except Exception:  # noqa: BLE001  a network may refuse noise: then its answers are judged as they come
            return found
        if answer.dtype.kind != "f" or answer.shape not in ((len(feeds[0]),), (len(feeds[0]), 1)):
            return None
        answer = answer[np.isfinite(answer)]
        if ((answer < 0) | (answer > 1)).any():
            return "sigmoid"
        found = "none" if answer.size else found
    return found


def _noise(slot: Slot, batch: int, scale: float, random: np.random.Generator) -> np.ndarray:
    sides = [side if side > 0 else _FREE for side in slot.shape[1:]]
    rows = batch or (_ROWS if math.prod(sides) <= _SMALL_ROW else _FEW_ROWS)
    if np.dtype(slot.dtype).kind == "f":
        return (random.standard_normal((rows, *sides)) * scale).astype(slot.dtype)
    return random.integers(0, 2, (rows, *sides)).astype(slot.dtype)  # ids: small ones are in every vocabulary
