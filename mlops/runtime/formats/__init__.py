"""The model formats we open: one table, one loader a file. A new format is a copy of a neighbour plus one line here.

Importing this package imports no ML library: `load` and `preload` do, and only runners call them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from mlops.runtime.formats.base import Columns, Model, ModelError, Outcome, said
from mlops.runtime.formats.failures import explained

if TYPE_CHECKING:
    from mlops.runtime.spec import ModelSpec

__all__ = ["FORMATS", "Columns", "Format", "Model", "ModelError", "Outcome", "detect", "load", "open_spec", "preload"]


@dataclass(frozen=True)
class Format:
    """A row of the table: the loader's module, the file endings people use, the name shown to them; ``slow``: its library takes seconds to import."""

    name: str
    module: str
    extensions: tuple[str, ...]
    title: str
    slow: bool = False


_HERE = "mlops.runtime.formats."
FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("sklearn", _HERE + "sklearn", (".joblib", ".pkl", ".pickle"), "scikit-learn (pickle or joblib)"),
        Format("skops", _HERE + "skops", (".skops",), "scikit-learn (skops)", slow=True),
        Format("xgboost", _HERE + "xgboost", (".ubj", ".json"), "XGBoost (UBJSON or JSON)"),
        Format("lightgbm", _HERE + "lightgbm", (".txt",), "LightGBM (text)"),
        Format("onnx", _HERE + "onnx", (".onnx",), "ONNX"),
        Format("torch_export", _HERE + "torch_export", (".pt2",), "PyTorch (torch.export)", slow=True),
        Format("torchscript", _HERE + "torchscript", (".pt", ".pth"), "PyTorch (TorchScript)", slow=True),
        Format("python", _HERE + "python", (), "Python code (predict.py)", slow=True),
        Format("bundle", _HERE + "archive", (".zip", ".tar", ".tar.gz", ".tgz"), "Archive"),
        Format("table", _HERE + "table", (".csv", ".parquet", ".jsonl"), "data table"),
    )
}

# What a zygote imports. The order matters once: torch after the others keeps one OpenMP runtime in charge.
LIBRARIES = (
    "numpy",
    "joblib",
    "pandas",
    "pyarrow",
    "sklearn",
    "xgboost",
    "lightgbm",
    "onnxruntime",
    "PIL",
)
SLOW = ("skops.io", "torch")  # three quarters of all the time (the first imports the second)
# Submodules that the libraries import late; done before the lock-down so that a first call does not pay for them.
_LATE = ("pyarrow.parquet", "pyarrow.csv", "PIL.Image", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", *(f"sklearn.{name}" for name in (
    "calibration", "cluster", "compose", "cross_decomposition", "discriminant_analysis", "ensemble", "feature_extraction.text",
    "feature_selection", "gaussian_process", "impute", "isotonic", "kernel_approximation", "linear_model", "mixture", "multiclass",
    "multioutput", "naive_bayes", "neighbors", "neural_network", "pipeline", "preprocessing", "semi_supervised", "svm", "tree",
)))  # fmt: skip
_SLOW_LATE = ("torch.export.pt2_archive",)
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "JOBLIB_MULTIPROCESSING": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


class _Loader(Protocol):
    def load(self, path: str, *, device: str, options: dict[str, Any]) -> Model: ...


def load(path: str, format_name: str, *, device: str = "cpu", options: dict[str, Any] | None = None) -> Model:
    """Open a model file. This runs the file's code: call it in a sandboxed runner only.

    `options`: "class_names" (list, replaces the model's class labels), "threads" (int, default 1).
    Every failure is a `ModelError`; MemoryError and SystemExit pass through.
    """
    row = FORMATS.get(format_name)
    if row is None:
        raise ModelError(
            "unknown_format", f"There is no model format called {format_name!r}.", f"Known: {', '.join(FORMATS)}."
        )
    try:
        # importlib gives Any: the Protocol states what every format module has.
        loader = cast(_Loader, importlib.import_module(row.module))
    except ImportError as error:
        raise ModelError(
            "library_missing",
            f"{row.title} cannot be opened: {error}.",
            "Install the library in the runner's environment.",
        ) from error
    settings = dict(options or {})
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = loader.load(path, device=device, options=settings)
    except (ModelError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  a model file may raise anything at all while it is opened
        raise explained(error, path, row.name, row.title) from error
    model.notes.extend(_notes(caught))
    _rename_classes(model, settings.get("class_names"))
    _quiet()
    return model


def open_spec(spec: ModelSpec, *, device: str = "cpu") -> Model:
    """The model of a spec, in its accelerated form where it has one that can still be used."""
    options = {"threads": spec.limits.threads, **spec.options}
    if spec.folder is not None:
        options |= {"root": spec.folder["root"], "model": spec.folder["model"]}

    def native() -> Model:
        return load(spec.path, spec.format, device=device, options=options)

    if not spec.accelerated:
        return native()
    from mlops.runtime.formats import accelerated

    try:
        return accelerated.load(spec.accelerated["path"], native, eager=bool(spec.accelerated.get("eager")))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  another onnxruntime than made it may refuse the file; the model itself is there
        model = native()
        model.notes.append(f"Its accelerated form could not be opened, so it answers by itself: {said(error)}")
        return model


def detect(filename: str, head: bytes, path: str | None = None) -> str:
    """The format's name, by content first and by name second; `FormatError` with a hint when there is none."""
    from mlops.runtime.detecting import detect as by_content  # it needs FORMATS of this module

    return by_content(filename, head, path)


def preload(*, slow: bool, failed: dict[str, str] | None = None) -> dict[str, str]:
    """Import the ML libraries for a zygote, with one thread each: the quick ones or the slow. Never predicts: forking afterwards would hang.

    Returns library -> version; a library that is not installed is left out, and so is one that does not start: ``failed`` says why.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    found: dict[str, str] = {}
    failed = {} if failed is None else failed
    for name in SLOW if slow else LIBRARIES:
        if imported(name, failed):
            top = name.partition(".")[0]
            found[top] = version_of(top)
    for name in _SLOW_LATE if slow else _LATE:
        if name.partition(".")[0] in found:
            imported(name, failed)
    if "sklearn" in found:
        _find_thread_pools()
    _quiet()
    return found


def imported(name: str, failed: dict[str, str]) -> bool:
    """Import a module of a library that Slipway can do without; False where it cannot be had.

    One that is installed may raise anything at all when it does not fit this machine (torch: OSError, RuntimeError, AttributeError).
    The models that need it then say so themselves; all others must not pay for it.
    """
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:  # not installed, or it has moved a part: nothing to tell
        return False
    except Exception as error:  # noqa: BLE001  see above
        failed[name] = said(error)
        return False
    return True


def _find_thread_pools() -> None:
    """Some models (KMeans) ask at their first call; scikit-learn then reads /proc/self/maps, which a runner may not, and keeps what it found."""
    with contextlib.suppress(AttributeError, ImportError):
        importlib.import_module("sklearn.utils.parallel")._get_threadpool_controller()


def version_of(library: str) -> str:
    """The imported library's version, "" when it does not say."""
    return str(getattr(importlib.import_module(library), "__version__", ""))


def _quiet() -> None:
    """Loaders build plain arrays on purpose; scikit-learn would warn about missing names on each call."""
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    warnings.filterwarnings("ignore", message="X has feature names, but")


def _notes(caught: list[warnings.WarningMessage]) -> list[str]:
    texts = [str(warning.message).strip() for warning in caught if not issubclass(warning.category, DeprecationWarning)]
    return [text if len(text) <= 400 else text[:400] + "…" for text in dict.fromkeys(texts)][:10]


def _rename_classes(model: Model, names: Any) -> None:
    if not isinstance(names, list) or not names:
        return
    if model.classes is not None and len(model.classes) != len(names):
        raise ModelError(
            "class_names_mismatch",
            f"{len(names)} class names were given, but the model has {len(model.classes)} classes.",
            f"The model's own classes, in order: {model.classes[:20]}.",
        )
    own = model.classes or []
    # Numbers 0, 1, ... are places and may get any names; labels in another order would be swapped for one another.
    if own != names and own != list(range(len(own))) and sorted(map(repr, own)) == sorted(map(repr, names)):
        raise ModelError(
            "class_names_order",
            f"The classes that were given are the model's own, in another order: {names[:20]}.",
            f"Leave them out, or give them in the model's order: {own[:20]}.",
        )
    rename = getattr(model, "rename_classes", None)
    if rename is not None:
        rename(names)
