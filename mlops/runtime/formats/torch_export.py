"""torch.export programs (.pt2). Opening one may run code (its sample inputs are a pickle): runners only."""

from __future__ import annotations

from typing import Any

from mlops.runtime.formats.base import Model, ModelError
from mlops.runtime.formats.slots import Slot
from mlops.runtime.formats.torch_model import TorchModel, dtype_name


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import torch

    torch.set_num_threads(int(options.get("threads", 1)))
    with open(path, "rb") as file:
        program = torch.export.load(file)
    slots = _slots(program)
    if not slots:
        raise ModelError(
            "unsupported_input", "The program takes no tensor.", "Export a module whose forward() takes one."
        )
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    model = TorchModel(program.module(), slots, device)
    model.program = program
    return model


def _slots(program: Any) -> list[Slot]:
    wanted = set(program.graph_signature.user_inputs)
    slots = []
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in wanted:
            value = node.meta.get("val")
            if not hasattr(value, "shape"):
                raise ModelError(
                    "unsupported_input",
                    f"Input {node.name!r} is not a tensor.",
                    "Export a module that takes tensors only.",
                )
            # A free size is a SymInt, which is not an int.
            shape = tuple(size if isinstance(size, int) else -1 for size in value.shape)
            slots.append(Slot(node.name, dtype_name(value.dtype), shape or (-1,)))
    return slots
