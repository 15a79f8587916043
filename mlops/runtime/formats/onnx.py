"""ONNX graphs through onnxruntime: one thread, no telemetry, no external data, known operator domains only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlops.runtime.formats import labelled
from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.bound import OneRow, bound
from mlops.runtime.formats.single_score import activation_of
from mlops.runtime.formats.slots import Slot, fill, in_batches, inputs_of, tensor_of, tensors_of
from mlops.runtime.formats.values import are_probabilities, from_scores, plain, records
from mlops.runtime.protobuf import OnnxFacts, read_onnx

_DTYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "int64": "int64", "int32": "int32", "int16": "int16",
    "int8": "int8", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "bool": "bool", "string": "object",
}  # fmt: skip

_ROLES = ("label", "scores")  # what a converted classifier answers
_NOISE_ROWS, _SMALL_ROW = 128, 4096  # of rows with more numbers, pictures, one is asked


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import onnxruntime

    facts = read_onnx(path)
    problem = facts.problem()
    if problem is not None:
        raise ModelError(*problem)
    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = int(options.get("threads", 1))
    settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A pool thread that spins between calls would burn a core per idle model.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    providers = _providers(onnxruntime, device)
    try:
        session = onnxruntime.InferenceSession(path, settings, providers=providers)
    except Exception as error:
        if "locale" not in str(error):
            raise
        session = onnxruntime.InferenceSession(_in_known_locale(path), settings, providers=providers)
    return OnnxModel(session, facts)


def _in_known_locale(path: str) -> bytes:
    """The graph with its texts' letters made small in the one locale that every machine has; converters write none, which means en_US."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("locale", "C.UTF-8")])
    return model.SerializeToString()


def _providers(onnxruntime: Any, device: str) -> list[Any]:
    available = onnxruntime.get_available_providers()
    if device.startswith("cuda") and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


class OnnxModel(Model):
    """A session and what its graph says about inputs, labels and probabilities."""

    framework = "onnx"

    def __init__(self, session: Any, facts: OnnxFacts) -> None:
        super().__init__()
        import onnxruntime

        self.session = session
        self.libraries = {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}
        self.slots = [_slot(item) for item in session.get_inputs()]
        self._feed_names = [slot.name for slot in self.slots]
        outputs = session.get_outputs()
        self._label, self._chances = _roles(outputs)
        self._run_names = _asked_for(outputs, self._label, self._chances)
        batch = self.slots[0].shape[0] if self.slots and self.slots[0].shape else -1
        self.batch = batch if batch > 0 else 0
        self.inputs = inputs_of(self.slots)
        self.tensor = tensor_of(self.slots)
        self.tensors = tensors_of(self.slots)
        self._names = [column["name"] for column in self.inputs] if self.inputs else None
        self._labels: list[Any] | None = None
        # What one row of numbers goes through: made when the first one comes; None where there is no such way.
        self._one_row: OneRow | None = None
        self._may_bind = self.batch < 2 and session.get_providers() == ["CPUExecutionProvider"]
        self._describe(facts, outputs)

    def _describe(self, facts: OnnxFacts, outputs: list[Any]) -> None:
        if self._label is None:
            shape = outputs[0].shape
            one = len(self._run_names) == 1 and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1))
            self.task = "regressor" if one and outputs[0].type in ("tensor(float)", "tensor(double)") else "other"
            return
        labels, scores, keys = self._asked()
        named = self._chances is not None and "prob" in self._chances.lower()
        if scores is not None and not (labelled.in_range(scores) if named else are_probabilities(scores)):
            self._chances, self._run_names = None, [self._label]
            if not named:  # a converted clusterer: its label, and how far each row is from each cluster
                return
        self.task, self.probabilities = "classifier", self._chances is not None
        told = facts.class_labels
        if keys:  # in the graph's order, where that says the same
            self.classes = told if told and len(told) == len(keys) and set(told) == set(keys) else keys
        elif scores is None:
            self.classes = told
        elif len(labels) == len(scores):  # else a label for each of several outputs
            numbers = list(range(max(2, scores.shape[1]))) if isinstance(labels[0], int) else None
            self.classes = labelled.columns_of(labels, scores, (told, numbers))

    def _asked(self) -> tuple[list[Any], np.ndarray | None, list[Any]]:
        """Labels, scores and a zipmap's keys, as answered to rows of noise; no scores where it refuses them: then its names are believed."""
        try:
            found = self._run([self._noise(slot) for slot in self.slots])
            keys = list(found[1][0]) if isinstance(found[1], list) else []
            scores = np.array([list(row.values()) for row in found[1]]) if keys else np.asarray(found[1])
        except Exception:  # noqa: BLE001  a graph may refuse any row that is made up, or has no scores
            return [], None, []
        scores = scores[:, None] if scores.ndim == 1 else scores
        if scores.ndim != len(_ROLES) or not np.isfinite(scores).all():
            return [], None, keys
        return plain(np.asarray(found[0]).reshape(-1)), scores, keys

    def _noise(self, slot: Slot) -> np.ndarray:
        sides = [size if size > 0 else 1 for size in slot.shape[1:]]
        shape = [self.batch or (_NOISE_ROWS if math.prod(sides) <= _SMALL_ROW else 1), *sides]
        if np.dtype(slot.dtype).kind != "f":
            return np.full(shape, "", dtype=object) if slot.dtype == "object" else np.zeros(shape, dtype=slot.dtype)
        random = np.random.default_rng(7)
        spread = 10.0 ** random.uniform(-1, 3, (shape[0], *[1] * (len(shape) - 1)))
        return (random.standard_normal(shape) * spread).astype(slot.dtype)

    def rename_classes(self, names: list[Any]) -> None:
        self._labels = self.classes
        self.classes = list(names)

    def describe(self) -> dict[str, Any]:
        said = activation_of(lambda feeds: self._run(feeds)[0], self.slots, self.batch) if self._label is None else None
        return super().describe() | ({"single_score": said} if said else {})

    def takes_table(self, names: tuple[str, ...]) -> bool:
        """Where one input takes all columns, in the order they come in."""
        if len(self.slots) != 1 or not self.slots[0].dtype.startswith("float"):
            return False
        others = self._names is None or set(names) != set(self._names)
        return self.slots[0].shape[1:] == (len(names),) and (others or list(names) == self._names)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        found = self._quick(columns) if self._may_bind and type(columns) is np.ndarray else None
        if found is None:
            feeds = fill(self.slots, columns, self._names)
            batched = self.batch and len(feeds[0]) != self.batch
            found = in_batches(self._run, feeds, self.batch) if batched else self._run(feeds)
        return self._outcome(found, schema)

    def _quick(self, table: np.ndarray) -> list[Any] | None:
        """The graph's answer to one row of numbers; None for anything else, which goes the long way."""
        slot = self.slots[0]
        if (
            len(self.slots) != 1
            or table.ndim != 2
            or len(table) != 1
            or table.dtype.kind != "f"
            or slot.dtype == "object"
        ):
            return None
        try:
            if self._one_row is None:
                self._one_row = bound(self.session, slot.name, np.dtype(slot.dtype), self._run_names, table)
                self._may_bind = self._one_row is not None
            return None if self._one_row is None else self._one_row(table)
        except Exception:  # noqa: BLE001  whatever it is, the long way meets it too
            return None

    def _outcome(self, found: list[Any], schema: dict[str, Any] | None) -> Outcome:
        output = (schema or {}).get("output")
        if self._label is None:
            values = self._by_name(found, output)
            return from_scores(found[0], output, self.classes) if values is None else Outcome(values)
        labels = np.asarray(found[0])
        wide = labels.ndim > 1 and labels.shape[1] > 1  # a label for each of several outputs
        values = plain(labels) if wide else self._named(plain(labels.reshape(-1)))
        return Outcome(values, self._probabilities(found[1]) if self._chances is not None else None)

    def _by_name(self, found: list[Any], output: dict[str, Any] | None) -> list[Any] | None:
        """Several outputs as objects; None where there is one, or where the first is said to be the scores of a classifier."""
        if len(found) == 1 or (output or {}).get("task") == "classifier" or not np.ndim(found[0]):
            return None
        return records(dict(zip(self._run_names, found, strict=True)), len(found[0]))

    def _run(self, feeds: list[np.ndarray]) -> list[Any]:
        found: list[Any] = self.session.run(self._run_names, dict(zip(self._feed_names, feeds, strict=True)))
        return found

    def _named(self, values: list[Any]) -> list[Any]:
        if self._labels is None or self.classes is None:
            return values
        renamed = dict(zip(self._labels, self.classes, strict=True))
        return [renamed.get(value, value) for value in values]

    def _order(self, row: dict[Any, float]) -> list[Any]:
        """The labels in the order of the classes: a zipmap's own order is that of the alphabet."""
        known = self._labels or self.classes or []
        return known if set(known) == set(row) else list(row)

    def _probabilities(self, found: Any) -> list[list[float]] | None:
        if isinstance(found, list):  # zipmap: a dict per row
            order = self._order(found[0]) if found else []
            return [[float(row[label]) for label in order] for row in found]
        array = np.asarray(found)
        if array.ndim == 3:  # noqa: PLR2004  [outputs, rows, classes]
            return plain(array.transpose(1, 0, 2))
        if array.ndim == 1 or array.shape[1] == 1:
            array = array.reshape(-1, 1).astype(np.float64)
            array = np.hstack([1.0 - array, array])
        return plain(array) if array.ndim == 2 else None


def _slot(item: Any) -> Slot:
    dtype = (
        _DTYPES.get(item.type.removeprefix("tensor(").removesuffix(")")) if item.type.startswith("tensor(") else None
    )
    if dtype is None:
        raise ModelError(
            "unsupported_input",
            f"Input {item.name!r} is a {item.type}, which a request cannot carry.",
            "Export with tensor inputs.",
        )
    shape = tuple(size if isinstance(size, int) and size > 0 else -1 for size in item.shape)
    return Slot(item.name, dtype, shape or (-1,))


def _asked_for(outputs: list[Any], label: str | None, chances: str | None) -> list[str]:
    """Which outputs are run: a converted classifier's two, else every tensor there is."""
    told = [name for name in (label, chances) if name is not None]
    return told or [item.name for item in outputs if item.type.startswith("tensor(")] or [outputs[0].name]


def _roles(outputs: list[Any]) -> tuple[str | None, str | None]:
    """(label output, probability output) of a converted classifier; (None, None) for plain scores."""
    labels = [item for item in outputs if item.type in ("tensor(int64)", "tensor(string)") and len(item.shape) <= 2]
    chances = [item for item in outputs if item.type.startswith("seq(map(")] or [
        item
        for item in outputs
        if item.type in ("tensor(float)", "tensor(double)")
        and ("prob" in item.name.lower() or (len(item.shape) == 2 and len(outputs) == 2))
    ]
    if not labels or (len(outputs) > 1 and not chances):
        return None, None
    if len(outputs) == 1 and "label" not in outputs[0].name.lower() and outputs[0].type != "tensor(string)":
        return None, None
    return labels[0].name, chances[0].name if chances else None
