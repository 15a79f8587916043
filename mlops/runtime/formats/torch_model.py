"""What torch.export programs and TorchScript modules share once they are open."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.single_score import activation_of
from mlops.runtime.formats.slots import Slot, fill, in_batches, inputs_of, tensor_of, tensors_of
from mlops.runtime.formats.values import from_scores, records

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
        self.tensors = tensors_of(slots)
        # One tensor is asked for as a tensor; several rank-1 or rank-2 ones can only come as columns.
        self.inputs = inputs_of(slots) if self.tensor is None else None
        columns = inputs_of(slots)
        self._names = [column["name"] for column in columns] if columns else None

    def rename_classes(self, names: list[Any]) -> None:
        self.task, self.classes, self.probabilities = "classifier", list(names), True

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        feeds = fill(self.slots, columns, self._names)
        names: list[str] = []
        batched = self.batch and len(feeds[0]) != self.batch
        run = partial(self._run, names=names)
        found = in_batches(run, feeds, self.batch) if batched else run(feeds)
        return self._outcome(dict(zip(names, found, strict=True)), len(feeds[0]), self._output(schema))

    def describe(self) -> dict[str, Any]:
        said = activation_of(self._scores, self.slots, self.batch)
        return super().describe() | ({"single_score": said} if said else {})

    def _scores(self, feeds: list[np.ndarray]) -> Any:
        names: list[str] = []
        found = self._run(feeds, names)
        return found[names.index(preferred(names))]

    def _outcome(self, found: dict[str, Any], rows: int, output: dict[str, Any] | None) -> Outcome:
        """The only output, or the one that holds the scores of a classifier, or all of them by name."""
        if len(found) > 1 and (output is None or output.get("task") != "classifier"):
            values = records(found, rows)
            if values is not None:
                return Outcome(values)
        scores = found[preferred(list(found))]
        if np.asarray(scores).ndim == 0 or len(scores) != rows:
            raise ModelError(
                "bad_output",
                f"The network answered shape {list(np.shape(scores))} for {rows} rows.",
                "Answer one row per input row.",
            )
        return from_scores(scores, output, self.classes)

    def _output(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        output = (schema or {}).get("output")
        if self.classes is not None and (output is None or output.get("task") == "other"):
            return {
                "task": "classifier",
                "classes": self.classes,
                **({"activation": output["activation"]} if output and "activation" in output else {}),
            }
        return output

    def _run(self, feeds: list[np.ndarray], names: list[str]) -> list[Any]:
        """An array per output; ``names`` is filled with what they are called."""
        torch = self.torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(feed) for feed in feeds]
            if self.device != "cpu":
                tensors = [tensor.to(self.device) for tensor in tensors]
            found = _outputs(self.module(*tensors))
            names[:] = list(found)
            return [
                (answer.float() if answer.dtype == torch.bfloat16 else answer).cpu().numpy()
                for answer in found.values()
            ]


def _outputs(answer: Any) -> dict[str, Any]:
    """The tensors of an answer by name: of a dict or a named tuple its own, of a tuple output_0, output_1, ..."""
    if isinstance(answer, dict):
        named = {str(name): part for name, part in answer.items()}
    elif isinstance(answer, (list, tuple)):
        fields = getattr(answer, "_fields", None) or [f"output_{place}" for place in range(len(answer))]
        named = dict(zip(fields, answer, strict=True))
    else:
        named = {"output": answer}
    found = {name: part.detach() for name, part in named.items() if hasattr(part, "detach")}
    if not found:
        return {"output": one_tensor(answer)}
    return found


def preferred(names: list[str]) -> str:
    """The output that matters where one is asked for: the best known name, else the first."""
    return next((name for name in _PREFERRED if name in names), names[0])


def one_tensor(answer: Any) -> Any:
    """The tensor that matters: the only one, the first of a tuple, or the best known name of a dict."""
    if isinstance(answer, dict) and answer:
        answer = answer[preferred(list(answer))]
    while isinstance(answer, (list, tuple)) and answer:
        answer = answer[0]
    if not hasattr(answer, "detach"):
        raise ModelError(
            "bad_output",
            f"The network answered a {type(answer).__name__}, not a tensor.",
            "Return a tensor, a tuple of tensors or a dict of them from forward().",
        )
    return answer.detach()
