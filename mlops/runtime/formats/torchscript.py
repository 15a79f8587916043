"""TorchScript modules (.pt, .pth). TorchScript reads and writes files as it likes: runners only."""

from __future__ import annotations

import zipfile
from typing import Any

from mlops.runtime.formats.base import Model, ModelError
from mlops.runtime.formats.slots import Slot
from mlops.runtime.formats.torch_model import TorchModel, dtype_name

WEIGHTS_ONLY_HINT = (
    "Export the whole network: torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), or "
    "torch.jit.script(model).save('model.pt'), or torch.onnx.export; or push the weights together with a predict.py that builds the network."
)


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import torch

    torch.set_num_threads(int(options.get("threads", 1)))
    _refuse_weights(path)
    module: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
    module.eval()
    return TorchModel(module, _slots(module), device)


def _refuse_weights(path: str) -> None:
    """torch.save() files have no code/ folder: a state_dict, or a pickled module whose class is not in the file."""
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                hint = "Save the model again and push the whole file."
                raise ModelError("truncated", "The TorchScript file is damaged or cut short.", hint)
        raise ModelError(
            "weights_only",
            "The file is not TorchScript: an old-style torch.save() file without a network.",
            WEIGHTS_ONLY_HINT,
        )
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            "weights_only",
            "The file holds weights (a state_dict or a pickled module) without the network's code.",
            WEIGHTS_ONLY_HINT,
        )


def _slots(module: Any) -> list[Slot]:
    """TorchScript keeps no shapes: the first weight tells how wide the input is, the rest is free."""
    try:
        arguments = [argument for argument in module.forward.schema.arguments[1:] if not argument.has_default_value()]
    except (AttributeError, RuntimeError) as error:
        raise ModelError(
            "unsupported_input", "The module has no forward().", "Script a module with a forward method."
        ) from error
    if not arguments or any(str(argument.type) not in ("Tensor", "Optional[Tensor]") for argument in arguments):
        raise ModelError(
            "unsupported_input",
            "forward() takes something other than tensors.",
            "Script a module that takes tensors only.",
        )
    if len(arguments) > 1:
        return [Slot(argument.name, "float32", (-1, -1), guessed=True) for argument in arguments]
    return [Slot(arguments[0].name, *_first_layer(module), guessed=True)]


def _first_layer(module: Any) -> tuple[str, tuple[int, ...]]:
    for _, child in module.named_modules():
        weight = getattr(child, "weight", None)
        kind = getattr(child, "original_name", "")
        if weight is None or not hasattr(weight, "shape"):
            continue
        if kind == "Linear":
            return dtype_name(weight.dtype), (-1, int(weight.shape[1]))
        if kind in ("Conv1d", "Conv2d", "Conv3d"):
            groups = int(getattr(child, "groups", 1) or 1)
            return dtype_name(weight.dtype), (-1, int(weight.shape[1]) * groups, *([-1] * (weight.dim() - 2)))
        if kind.startswith("BatchNorm1d"):
            return dtype_name(weight.dtype), (-1, int(weight.shape[0]))
        if kind == "Embedding":
            return "int64", (-1, -1)
        break
    return "float32", (-1, -1)
