"""What torch.export programs and TorchScript modules share once they are open."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.slots import Slot, fill, in_batches, inputs_of, tensor_of
from mlops.runtime.formats.values import from_scores

_DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
_PREFERRED = ("logits", "scores", "probabilities", "output", "outputs", "prediction", "predictions")


def dtype_name(dtype: Any) -> str:
    """numpy's name of a torch dtype; bfloat16 and friends are fed as float32."""
    name = str(dtype).removeprefix("torch.")
    return name if name in _DTYPES else "float32"


class TorchModel(Model):
    """A callable module. Its outputs are raw: the schema's `output` says whether they are class scores."""

    framework = "torch"

    def __init__(self, module: Any, slots: list[Slot], device: str) -> None:
        super().__init__()
        import torch

        self.torch = torch
        self.module = module
        self.slots = slots
        self.device = device
        self.program: Any = None  # the exported program, where there is one
        self.libraries = {"torch": torch.__version__, "numpy": np.__version__}
        first = slots[0].shape[0]
        self.batch = first if first > 0 else 0
        self.tensor = tensor_of(slots)
        # One tensor is asked for as a tensor; several rank-1 or rank-2 ones can only come as columns.
        self.inputs = inputs_of(slots) if self.tensor is None else None
        columns = inputs_of(slots)
        self._names = [column["name"] for column in columns] if columns else None

    def rename_classes(self, names: list[Any]) -> None:
        self.task, self.classes, self.probabilities = "classifier", list(names), True

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        feeds = fill(self.slots, columns, self._names)
        if self.batch and len(feeds[0]) != self.batch:
            (scores,) = in_batches(self._run, feeds, self.batch)
        else:
            (scores,) = self._run(feeds)
        if np.asarray(scores).ndim == 0 or len(scores) != len(feeds[0]):
            raise ModelError(
                "bad_output",
                f"The network answered shape {list(np.shape(scores))} for {len(feeds[0])} rows.",
                "Answer one row per input row.",
            )
        return from_scores(scores, self._output(schema), self.classes)

    def _output(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        output = (schema or {}).get("output")
        if self.classes is not None and (output is None or output.get("task") == "other"):
            return {
                "task": "classifier",
                "classes": self.classes,
                **({"activation": output["activation"]} if output and "activation" in output else {}),
            }
        return output

    def _run(self, feeds: list[np.ndarray]) -> list[Any]:
        torch = self.torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(feed) for feed in feeds]
            if self.device != "cpu":
                tensors = [tensor.to(self.device) for tensor in tensors]
            answer = _one_tensor(self.module(*tensors))
            if answer.dtype == torch.bfloat16:
                answer = answer.float()
            return [answer.cpu().numpy()]


def _one_tensor(answer: Any) -> Any:
    """The tensor that matters: the only one, the first of a tuple, or the best known name of a dict."""
    if isinstance(answer, dict):
        name = next((name for name in _PREFERRED if name in answer), next(iter(answer), None))
        answer = answer.get(name)
    while isinstance(answer, (list, tuple)) and answer:
        answer = answer[0]
    if not hasattr(answer, "detach"):
        raise ModelError(
            "bad_output",
            f"The network answered a {type(answer).__name__}, not a tensor.",
            "Return a tensor from forward().",
        )
    return answer.detach()
