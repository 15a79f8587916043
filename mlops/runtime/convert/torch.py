"""Networks: torch's two exporters. Programs (.pt2) by the quick tracer first, then by the thorough one; TorchScript by the tracer alone."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mlops.runtime.convert.candidates import Candidate
from mlops.runtime.convert.plan import SLOTS, Plan, Unsuitable
from mlops.runtime.formats.slots import inputs_of
from mlops.runtime.formats.torch_model import TorchModel, one_tensor

_FREE = 8  # a size that is free, other than the rows, while the graph is traced
_OPSET = 20


def candidates(model: TorchModel, schema: dict[str, Any]) -> Iterator[Candidate]:
    """Raises Unsuitable for a network on a GPU, or of a fixed number of rows."""
    if model.device != "cpu":
        raise Unsuitable("it runs on a GPU")
    if model.batch:
        raise Unsuitable(f"it was exported for exactly {model.batch} rows")
    yield Candidate("float32", lambda: _traced(model))
    program = getattr(model, "program", None)
    if program is not None:
        yield Candidate("float32", lambda: _exported(model, program))


def _traced(model: TorchModel) -> tuple[Any, Plan]:
    import onnx

    torch = model.torch
    example = tuple(_example(torch, slot) for slot in model.slots)
    module = model.module
    for weight in module.parameters():
        weight.requires_grad_(False)
    if not isinstance(module, torch.jit.ScriptModule):
        inner = module
        module = torch.jit.trace(lambda *tensors: one_tensor(inner(*tensors)), example, check_trace=False)
    names = [f"x{place}" for place in range(len(example))]
    free = {
        name: {axis: f"{name}_{axis}" for axis, size in enumerate(slot.shape) if size < 0}
        for name, slot in zip(names, model.slots, strict=True)
    }
    file = io.BytesIO()
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            module,
            example,
            file,
            dynamo=False,
            opset_version=_OPSET,
            input_names=names,
            output_names=["y"],
            dynamic_axes=free,
        )
    proto = onnx.load_from_string(file.getvalue())
    return proto, _plan(model, names, [output.name for output in proto.graph.output])


def _exported(model: TorchModel, program: Any) -> tuple[Any, Plan]:
    torch = model.torch
    with _quiet():
        proto = torch.onnx.export(program, dynamo=True, verbose=False).model_proto
    names = [entry.name for entry in proto.graph.input]
    return proto, _plan(model, names, [output.name for output in proto.graph.output])


def _plan(model: TorchModel, names: list[str], outputs: list[str]) -> Plan:
    if len(names) != len(model.slots):
        raise Unsuitable("an input of the network does nothing")
    feeds = [{"name": name, "dtype": slot.dtype} for name, slot in zip(names, model.slots, strict=True)]
    columns = inputs_of(model.slots)
    return Plan(
        SLOTS, "float32", feeds, [column["name"] for column in columns] if columns else None, values=outputs[0],
        slots=[[slot.name, slot.dtype, list(slot.shape)] for slot in model.slots],
    )  # fmt: skip


def _example(torch: Any, slot: Any) -> Any:
    shape = [2, *(size if size > 0 else _FREE for size in slot.shape[1:])]
    return torch.from_numpy(np.zeros(shape, dtype=slot.dtype))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print whole graphs when they fail."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: SIM117
            with contextlib.redirect_stderr(nowhere):
                yield
    finally:
        logging.disable(before)


_Build = Callable[[], tuple[Any, Plan]]
