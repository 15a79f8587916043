"""The model file beside a ``predict.py`` that has no ``load``: opened the usual way, and handed over as its library gives it. Runners only."""

from __future__ import annotations

import os
from typing import Any

from mlops.runtime.detecting import FormatError, detect
from mlops.runtime.formats.base import ModelError, said

_HEAD_BYTES = 64 << 10


def opened(path: str, device: str, options: dict[str, Any]) -> Any:
    """The opened model; a folder, or a file that no library of ours knows, stays a path. Raises ModelError."""
    if os.path.isdir(path):
        return path
    with open(path, "rb") as file:
        head = file.read(_HEAD_BYTES)
    kind = _kind(path, head)
    opener = _OPENERS.get(kind)
    if opener is None:
        return path
    try:
        return opener(path, device, int(options.get("threads", 1)))
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(
            "load_failed",
            f"{os.path.basename(path)} could not be opened for predict.py: {said(error)}",
            "Give predict.py a function load(path) that opens it your way.",
        ) from error


def _kind(path: str, head: bytes) -> str:
    if path.endswith(".safetensors"):
        return "safetensors"
    try:
        return detect(os.path.basename(path), head, path)
    except FormatError as error:
        return "state_dict" if error.code == "weights_only" else ""


def _pickle(path: str, device: str, threads: int) -> Any:
    import joblib

    return joblib.load(path)


def _skops(path: str, device: str, threads: int) -> Any:
    import skops.io

    return skops.io.load(path, trusted=sorted(skops.io.get_untrusted_types(file=path)))


def _xgboost(path: str, device: str, threads: int) -> Any:
    import xgboost

    return xgboost.Booster({"nthread": threads}, model_file=path)


def _lightgbm(path: str, device: str, threads: int) -> Any:
    import lightgbm

    return lightgbm.Booster(model_file=path)


def _onnx(path: str, device: str, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _torchscript(path: str, device: str, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]


def _torch_export(path: str, device: str, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    return torch.export.load(path).module()


def _state_dict(path: str, device: str, threads: int) -> Any:
    """Weights only; a pickled module is for a ``load`` of its author's own."""
    import torch

    torch.set_num_threads(threads)
    return torch.load(path, map_location=device, weights_only=True)


def _safetensors(path: str, device: str, threads: int) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:  # no torch here
        from safetensors.numpy import load_file as load_arrays

        return load_arrays(path)
    return load_file(path, device=device)


_OPENERS = {
    "sklearn": _pickle,
    "skops": _skops,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "onnx": _onnx,
    "torchscript": _torchscript,
    "torch_export": _torch_export,
    "state_dict": _state_dict,
    "safetensors": _safetensors,
}
