"""Read what matters of an ONNX file without any library: operator domains, external data, class labels.

A protobuf message is a run of (field number, wire type, value). Only the fields named in `_MODEL` and below are followed;
big payloads are stepped over, so a 2 GB model costs no more than its graph. Nothing of the file is executed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ALLOWED_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))
MAX_FIELDS = 30_000_000
MAX_DEPTH = 32
_MAX_LABELS = 10_000

# Field numbers of onnx.proto (the ones we follow).
# Training graphs (field 20) are left out: inference never runs them.
_MODEL_IR, _MODEL_PRODUCER, _MODEL_GRAPH, _MODEL_OPSET, _MODEL_FUNCTION = 1, 2, 7, 8, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_INTS, _ATTRIBUTE_STRINGS = 1, 5, 6, 8, 9
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 10, 11, 22, 23
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_STRINGS, _TENSOR_INT64S, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 6, 7, 8, 9
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14
_FUNCTION_NODE, _FUNCTION_DOMAIN, _OPSET_VERSION = 7, 10, 2
_INT64, _STRING = 7, 8
_LABEL_ATTRIBUTES = frozenset((b"classlabels_ints", b"classlabels_int64s", b"classlabels_strings"))

# Runs of unpacked numbers in an attribute (floats: field 7, ints: field 8). A forest has a million of them, and only
# class labels matter, so a run is stepped over at the speed of a regular expression.
_NUMBER_RUN = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f])+", re.DOTALL)

Span = tuple[int, int]


class NotProtobuf(ValueError):
    """The bytes are not the message they claim to be (or end too early)."""


@dataclass
class OnnxFacts:
    """What a look at the file tells."""

    ir_version: int = 0
    producer: str = ""
    opsets: list[int] = field(default_factory=list)
    nodes: int = 0
    domains: set[str] = field(default_factory=set)
    own_functions: set[str] = field(default_factory=set)
    external: list[str] = field(default_factory=list)
    inputs: int = 0
    outputs: int = 0
    class_labels: list[Any] | None = None
    graph_found: bool = False

    def problem(self) -> tuple[str, str, str] | None:
        """(code, message, hint) of why this file is refused, or None."""
        if not self.graph_found or not self.outputs:
            return ("not_onnx", "The file is not an ONNX model: it has no graph.", "Export the model to ONNX again.")
        if self.external:
            names = ", ".join(self.external[:3])
            return (
                "external_data",
                f"The ONNX model keeps weights in other files ({names}), which is not allowed.",
                "Save it as one file: onnx.save_model(model, 'model.onnx', save_as_external_data=False).",
            )
        foreign = sorted(self.domains - ALLOWED_DOMAINS - self.own_functions)
        if foreign:
            return (
                "unknown_domain",
                f"The ONNX model uses operators of an unknown domain: {', '.join(foreign[:5])}.",
                "Export it with standard operators only (domains ai.onnx, ai.onnx.ml and com.microsoft).",
            )
        return None


def read_onnx(path: str) -> OnnxFacts:
    """The facts of a file; `NotProtobuf` when it cannot be followed to its end."""
    with open(path, "rb") as file:
        file.seek(0, 2)
        if file.tell() == 0:
            raise NotProtobuf("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).model()


class _Reader:
    def __init__(self, data: Any) -> None:
        self.data = data
        self.left = MAX_FIELDS
        self.facts = OnnxFacts()
        # Short one-dimensional tensors by name: converters keep class labels in them.
        self.small: dict[bytes, list[Any]] = {}

    def fields(self, start: int, end: int, *, skip_numbers: bool = False) -> Iterator[tuple[int, int, Any]]:
        """(number, wire type, value): an int for numbers, a (start, end) span for bytes."""
        place = start
        while place < end:
            if skip_numbers and (run := _NUMBER_RUN.match(self.data, place, end)) is not None:
                place = run.end()
                continue
            self.left -= 1
            if self.left < 0:
                raise NotProtobuf("too many fields to follow")
            key, place = self._varint(place, end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise NotProtobuf("field number 0")
            if wire == 0:
                value, place = self._varint(place, end)
                yield number, wire, value
                continue
            if wire == 2:
                size, place = self._varint(place, end)
            elif wire in (1, 5):
                size = 8 if wire == 1 else 4
            else:
                raise NotProtobuf(f"wire type {wire}")
            if place + size > end:
                raise NotProtobuf("a field runs past the end")
            yield number, wire, (place, place + size)
            place += size

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while place < end and shift < 70:
            byte = self.data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place
            shift += 7
        raise NotProtobuf("a number runs past the end")

    def spans(self, span: Span) -> Iterator[tuple[int, Span]]:
        """Only the length-delimited fields of a message."""
        for number, wire, value in self.fields(*span):
            if wire == 2:
                yield number, value

    def text(self, span: Span) -> str:
        return bytes(self.data[span[0] : min(span[1], span[0] + 500)]).decode("utf-8", "replace")

    def model(self) -> OnnxFacts:
        facts = self.facts
        graphs, functions = [], []
        for number, wire, value in self.fields(0, len(self.data)):
            if number == _MODEL_IR and wire == 0:
                facts.ir_version = value
            elif wire != 2:
                continue
            elif number == _MODEL_PRODUCER:
                facts.producer = self.text(value)
            elif number == _MODEL_GRAPH:
                graphs.append(value)
            elif number == _MODEL_OPSET:
                facts.opsets += [
                    version
                    for field_no, kind, version in self.fields(*value)
                    if field_no == _OPSET_VERSION and kind == 0
                ]
            elif number == _MODEL_FUNCTION:
                functions.append(value)
        for span in functions:
            self._function(span)
        for span in graphs:
            facts.graph_found = True
            self._graph(span, 0)
        return facts

    def _function(self, span: Span) -> None:
        for number, value in self.spans(span):
            if number == _FUNCTION_DOMAIN:
                self.facts.own_functions.add(self.text(value))
            elif number == _FUNCTION_NODE:
                self._node(value, 1)

    def _graph(self, span: Span, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise NotProtobuf("graphs are nested too deeply")
        nodes = []
        for number, value in self.spans(span):
            if number == _GRAPH_INITIALIZER:
                self._tensor(value)
            elif number == _GRAPH_NODE:
                nodes.append(value)
            elif number == _GRAPH_SPARSE:
                self._sparse(value)
            elif number == _GRAPH_INPUT and depth == 0:
                self.facts.inputs += 1
            elif number == _GRAPH_OUTPUT and depth == 0:
                self.facts.outputs += 1
        for value in nodes:
            self._node(value, depth)

    def _node(self, span: Span, depth: int) -> None:
        self.facts.nodes += 1
        domain, op, inputs = "", b"", []
        for number, value in self.spans(span):
            if number == _NODE_DOMAIN:
                domain = self.text(value)
            elif number == _NODE_OP:
                op = bytes(self.data[value[0] : value[1]])
            elif number == _NODE_INPUT:
                inputs.append(bytes(self.data[value[0] : value[1]]))
            elif number == _NODE_ATTRIBUTE:
                self._attribute(value, depth)
        self.facts.domains.add(domain)
        if op == b"ArrayFeatureExtractor" and inputs and len(self.small.get(inputs[0], ())) > 1:
            self.facts.class_labels = self.small[inputs[0]]

    def _attribute(self, span: Span, depth: int) -> None:
        name = b""
        labels: list[Any] = []
        # Writers put the name first; where they do, the numbers of attributes we do not care for are stepped over.
        number, wire, value = next(self.fields(*span), (0, 0, (0, 0)))
        known = bytes(self.data[value[0] : value[1]]) if (number, wire) == (_ATTRIBUTE_NAME, 2) else b""
        for number, wire, value in self.fields(*span, skip_numbers=bool(known) and known not in _LABEL_ATTRIBUTES):
            if number == _ATTRIBUTE_NAME and wire == 2:
                name = bytes(self.data[value[0] : value[1]])
            elif number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS) and wire == 2:
                self._tensor(value)
            elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) and wire == 2:
                self._graph(value, depth + 1)
            elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES) and wire == 2:
                self._sparse(value)
            elif name in _LABEL_ATTRIBUTES and len(labels) < _MAX_LABELS:
                labels += self._label(number, wire, value)
        if name in _LABEL_ATTRIBUTES and len(labels) > 1:
            self.facts.class_labels = labels

    def _label(self, number: int, wire: int, value: Any) -> list[Any]:
        if number == _ATTRIBUTE_STRINGS and wire == 2:
            return [self.text(value)]
        if number != _ATTRIBUTE_INTS:
            return []
        return [_signed(value)] if wire == 0 else self._packed(value)

    def _packed(self, span: Span) -> list[int]:
        found: list[int] = []
        place = span[0]
        while place < span[1] and len(found) < _MAX_LABELS:
            value, place = self._varint(place, span[1])
            found.append(_signed(value))
        return found

    def _sparse(self, span: Span) -> None:
        for number, value in self.spans(span):
            if number in (1, 2):  # values, indices
                self._tensor(value)

    def _tensor(self, span: Span) -> None:
        name, kind, dims, external = b"", 0, 0, False
        found: list[Any] = []
        for number, wire, value in self.fields(*span):
            if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value == 1):
                external = True
            elif number == _TENSOR_NAME and wire == 2:
                name = bytes(self.data[value[0] : value[1]])
            elif number == _TENSOR_TYPE and wire == 0:
                kind = value
            elif number == _TENSOR_DIMS:
                dims += 1 if wire == 0 else len(self._packed(value))
            elif number in (_TENSOR_STRINGS, _TENSOR_INT64S, _TENSOR_RAW) and len(found) < _MAX_LABELS:
                found += self._elements(number, wire, value)
        if external:
            self.facts.external.append(name.decode("utf-8", "replace")[:100] or "a tensor")
        if kind in (_INT64, _STRING) and dims == 1 and found:
            self.small[name] = found

    def _elements(self, number: int, wire: int, value: Any) -> list[Any]:
        if number == _TENSOR_STRINGS:
            return [self.text(value)] if wire == 2 else []
        if number == _TENSOR_INT64S:
            return [_signed(value)] if wire == 0 else self._packed(value)
        if wire != 2 or value[1] - value[0] > 8 * _MAX_LABELS or (value[1] - value[0]) % 8:
            return []
        raw = bytes(self.data[value[0] : value[1]])
        return [int.from_bytes(raw[place : place + 8], "little", signed=True) for place in range(0, len(raw), 8)]


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
