"""Sessions of ONNX Runtime, and its calls without what a quick graph does not need.

A single row goes through memory that was bound to the graph once: no array is made on the way, which is half of such a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


def open_session(source: str | bytes) -> Any:
    """An onnxruntime session with one thread that does not spin between calls."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


class OneRow:
    """Of a graph with one input of numbers. There is one row of memory: not for several threads."""

    def __init__(self, session: Any, feed: str, outputs: list[str], row: np.ndarray, answers: list[np.ndarray]) -> None:
        """``answers``: what the graph answered to ``row``, for their types and shapes; see ``bound``."""
        self._row, self._answers = np.array(row), [np.array(answer) for answer in answers]
        settings = _settings()
        binding = session.io_binding()
        binding.bind_input(feed, "cpu", 0, row.dtype, row.shape, self._row.ctypes.data)
        for name, answer in zip(outputs, self._answers, strict=True):
            binding.bind_output(name, "cpu", 0, answer.dtype, answer.shape, answer.ctypes.data)
        # Where answers change their shape, memory of one shape is of no use: then the graph makes its own.
        self._fits, self._free = True, partial(session.run, outputs, {feed: self._row})
        self._binding = binding  # which the run below needs alive
        self._run: Callable[[], None] = partial(session.run_with_iobinding, binding, settings)
        inner, bindings = getattr(session, "_sess", None), getattr(binding, "_iobinding", None)
        if inner is not None and bindings is not None:  # without the questions about GPUs that are asked each time
            self._run = partial(inner.run_with_iobinding, bindings, settings)
        self._shape = row.shape

    def __call__(self, row: np.ndarray) -> list[np.ndarray]:
        """The graph's outputs, good until the next call. Raises whatever the graph raises, and ValueError for a row of another width."""
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {row.shape} instead of {self._shape}")
        self._row[...] = row
        if self._fits:
            try:
                self._run()
                return self._answers
            except Exception:  # noqa: BLE001, S110  the row itself, or its answer has no room: a free run tells
                pass
        found: list[np.ndarray] = self._free()
        self._fits = False
        return found


def run_of(session: Any) -> Callable[[list[str], dict[str, np.ndarray]], list[Any]]:
    """``session.run`` without the questions about GPUs that it asks in each call, where this ONNX Runtime has such a way."""
    inner = getattr(session, "_sess", None)
    if inner is None:
        found: Callable[[list[str], dict[str, np.ndarray]], list[Any]] = session.run
        return found
    settings = _settings()
    return lambda outputs, feeds: inner.run(outputs, feeds, settings)


def _settings() -> Any:
    import onnxruntime

    settings = onnxruntime.RunOptions()
    # Looked up in every call, and where it is missing that is an exception there: five times the call itself.
    settings.add_run_config_entry("gpu_graph_id", "-1")
    return settings


def bound(session: Any, feed: str, dtype: np.dtype, outputs: list[str], row: np.ndarray) -> OneRow | None:
    """``OneRow`` for rows like this one; None where an output is no array of numbers, or there is none for each row."""
    first = np.ascontiguousarray(row, dtype)
    answers = session.run(outputs, {feed: first})
    for answer in answers:
        if not isinstance(answer, np.ndarray) or answer.dtype.kind not in "fiu" or answer.shape[:1] != (1,):
            return None
    return OneRow(session, feed, outputs, first, answers)
