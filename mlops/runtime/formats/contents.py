"""What a pickle holds that is no model, said so that its author knows what to save instead."""

from __future__ import annotations

from typing import Any

from mlops.runtime.formats.base import ModelError

_SAVE_ONE = "Save the fitted estimator or pipeline itself: joblib.dump(model, 'model.joblib')."
_ONE_PIPELINE = "Put the preprocessing and the model into one scikit-learn Pipeline and save that."
_EXPORT = (
    "Export the network: torch.export.save(torch.export.export(model.eval(), (example,)), 'model.pt2'), or to ONNX."
)
_SHOWN = 8


def only_estimator(found: Any) -> Any:
    """The one model in a dict, list or tuple; `ModelError` naming what is there when there is none, or more than it alone."""
    parts = list(found.values()) if isinstance(found, dict) else list(found)
    models = [part for part in parts if _does(part, "predict")]
    if len(models) == 1 and not any(_does(part, "transform") for part in parts if part is not models[0]):
        return models[0]
    what = "a dict" if isinstance(found, dict) else f"a {type(found).__name__} of {len(parts)}"
    named = (
        [(repr(str(name)) + ": ", part) for name, part in found.items()]
        if isinstance(found, dict)
        else [("", part) for part in parts]
    )
    listed = ", ".join(name + _kind(part) for name, part in named[:_SHOWN]) + (", ..." if len(parts) > _SHOWN else "")
    raise ModelError(
        "not_a_model",
        f"The file holds {what} ({listed or 'empty'}), not one model.",
        _ONE_PIPELINE if models else _SAVE_ONE,
    )


def refuse_no_model(found: Any) -> None:
    """Raises `ModelError` for what has neither predict() nor transform()."""
    if isinstance(found, type):
        message = f"The file holds the class {found.__name__} itself, not a fitted {found.__name__}."
        raise ModelError(
            "not_a_model", message, f"Make one, fit it and save that: model = {found.__name__}().fit(X, y)."
        )
    if _does(found, "predict") or _does(found, "transform"):
        return
    kind = f"{type(found).__module__}.{type(found).__qualname__}"
    message, hint = f"The file holds a {kind}, which has no predict().", _SAVE_ONE
    if _does(found, "fit_predict"):
        message = f"The file holds a {kind}, which labels the rows it was fitted on and has no predict() for new ones."
        hint = _instead_of(type(found).__name__)
    elif _does(found, "fit_transform"):
        message = (
            f"The file holds a {kind}, which places the rows it was fitted on and has no transform() for new ones."
        )
        hint = "Use a transformer that takes new rows, such as PCA, TruncatedSVD or UMAP's own predict in a predict.py."
    elif any(base.__module__.startswith("torch.nn") for base in type(found).__mro__):
        hint = _EXPORT
    elif callable(found):
        message = f"The file holds the function {getattr(found, '__name__', kind)!r}, not a model."
        hint = "Save the fitted model; code of your own goes into a predict.py in a folder with it."
    elif kind.startswith(("numpy.", "pandas.", "builtins.")):
        message = f"The file holds data (a {kind}), not a model."
    raise ModelError("not_a_model", message, hint)


def _instead_of(name: str) -> str:
    if name == "LocalOutlierFactor":
        return "Fit it with novelty=True, then it has a predict()."
    return (
        f"Use a clusterer that predicts (KMeans, MiniBatchKMeans, Birch, MeanShift), or train a classifier on {name}'s labels: "
        "KNeighborsClassifier(1).fit(X, model.labels_)."
    )


def _does(part: Any, method: str) -> bool:
    try:
        # Data frames have a transform() too.
        data = isinstance(part, type) or type(part).__module__.partition(".")[0] == "pandas"
        return not data and callable(getattr(part, method, None))
    except Exception:  # noqa: BLE001  a property of somebody's class
        return False


def _kind(part: Any) -> str:
    kind = type(part)
    return (
        kind.__name__
        if kind.__module__ != "builtins" or not hasattr(part, "__len__")
        else f"{kind.__name__} of {len(part)}"
    )


# Libraries that pickles of models need and a runner does not have: what their own people would push instead.
_EXPORTS = {
    "catboost": "Export it: model.save_model('model.onnx', format='onnx').",
    "tensorflow": "Export the network to ONNX (tf2onnx).",
    "keras": "Export the network to ONNX (tf2onnx).",
    "torch": _EXPORT,
    "transformers": "Export the network to ONNX (optimum) or to .pt2.",
    "sentence_transformers": "Export the network to ONNX (optimum) or to .pt2.",
    "cuml": "Convert it with its as_sklearn() and save that.",
}


def missing_module(name: str) -> ModelError:
    """The file needs a module that is not there."""
    top = name.partition(".")[0]
    if top == "__main__" or not top:
        hint = "Classes defined in a notebook or script are not inside a pickle. Use library classes, or push a folder with a predict.py."
    else:
        first = _EXPORTS.get(
            top,
            "Save the model without classes of your own (or functions from a notebook), or export it to ONNX or skops.",
        )
        hint = f"{first} Or push a folder: model file, predict.py and a requirements.txt that names {top}."
    return ModelError("module_missing", f"The file needs the module {name!r}, which the runner does not have.", hint)
