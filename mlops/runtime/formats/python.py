"""A user's own code: ``predict.py`` with ``predict(model, rows)`` and, if it likes, ``load(path)``. Runners only.

Rows are dicts of plain values where the schema has columns, else whatever the caller sent. An error in this code is told with its
file and line, and its own part of the traceback goes to its log.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import platform
import sys
import traceback
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from mlops.runtime.formats import answers
from mlops.runtime.formats.base import Model, ModelError, Outcome, said
from mlops.runtime.formats.plain_models import opened
from mlops.runtime.refusals import Refusal

_CONTRACT = "predict.py has predict(model, rows), which gives one prediction per row, and may have load(path), which gives the model."
_OWN_FILES = (
    "A model has no network, no new processes and no files but those of its folder: "
    "open them by the path that load(path) is given, or by os.path.join(os.path.dirname(__file__), NAME)."
)


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    """``path`` is the code; ``options``: root (the folder), model (the model file's name in it, or None)."""
    root = str(options.get("root") or os.path.dirname(path))
    beside = options.get("model")
    code = Code(path, root, "predict", _CONTRACT, _OWN_FILES)
    place = os.path.join(root, beside) if beside else root
    model = code.load(place) if code.has("load") else opened(place, device, options)
    return PythonModel(code, model)


class PythonModel(Model):
    """What predict.py makes of rows."""

    framework = "python"

    def __init__(self, code: Code, model: Any) -> None:
        super().__init__()
        self._code, self._model = code, model
        self.libraries = {"python": platform.python_version()}

    def rename_classes(self, names: list[Any]) -> None:
        self.task, self.classes = "classifier", list(names)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        rows = rows_of(columns)
        answer = answers.read(self._code.predict(self._model, rows), len(rows), self._code.name)
        if answer.classes is not None and self.classes is None:
            self.task, self.classes = "classifier", answer.classes
        if answer.probabilities is not None:
            self.probabilities = True
        return Outcome(answer.values, answer.probabilities)


def rows_of(columns: Any) -> list[Any]:
    """Rows as code likes them: one dict per row for columns, else the entries as they are, arrays as lists."""
    if not isinstance(columns, dict):
        listed: list[Any] = columns.tolist() if hasattr(columns, "tolist") else columns
        return listed
    plain = [values.tolist() if hasattr(values, "tolist") else values for values in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*plain, strict=True)]


class Code:
    """An imported file of a user's: its functions, and what they raise in words that name its file and line.

    ``function`` must be there, else the ``contract`` is told; ``files`` says which ones it may open.
    """

    def __init__(self, path: str, root: str, function: str, contract: str, files: str) -> None:
        self.name = os.path.relpath(path, root)
        self._root, self._contract, self._files = root, contract, files
        self._module = self._imported(path)
        if not self.has(function):
            raise ModelError(f"no_{function}", f"{self.name} has no function {function}.", contract)
        if function == "predict":
            self._predict = self._bound(self._module.predict, ("model", "rows"))

    def call(self, function: str, **given: Any) -> Any:
        """One of its functions with as many of the last arguments as it takes. Raises ModelError, MemoryError."""
        bound = self._bound(getattr(self._module, function), tuple(given))
        return self._told(lambda: bound(*given.values()))

    def has(self, function: str) -> bool:
        return callable(getattr(self._module, function, None))

    def load(self, place: str) -> Any:
        """What its load() gives: called with the model file, and with the folder where it wants that."""
        function = self._bound(self._module.load, ("path",))
        try:
            return self._told(lambda: function(place))
        except ModelError as error:
            if place == self._root or not isinstance(error.__cause__, (NotADirectoryError, FileNotFoundError)):
                raise
        return self._told(lambda: function(self._root))

    def predict(self, model: Any, rows: list[Any]) -> Any:
        try:
            return self._predict(model, rows)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            self._log(error)
            where, missing = self._where(error), _missing(error)
            if missing is not None:
                raise missing from error
            raise Refusal(
                500,
                "model_error",
                f"{where}{said(error)}",
                "The traceback is in the model's log. Try the same rows on your machine.",
            ) from error

    def _imported(self, path: str) -> ModuleType:
        for folder in dict.fromkeys((os.path.dirname(path), self._root)):
            sys.path.insert(0, folder)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ModelError("code_failed", f"{self.name} is not a Python file.", self._contract)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        loader = spec.loader
        self._told(lambda: loader.exec_module(module))
        _stand_in_for_main(module)
        return module

    def _bound(self, function: Callable[..., Any], names: tuple[str, ...]) -> Callable[..., Any]:
        """The function with as many of the last arguments as it takes: predict(rows) and load() are fine, too."""
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return function
        if any(each.kind is each.VAR_POSITIONAL for each in parameters):
            return function
        places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        wanted = [each for each in places if each.default is each.empty]
        if len(wanted) > len(names):
            raise ModelError(
                "bad_signature",
                f"{self.name}: {function.__name__}() wants {len(wanted)} arguments ({', '.join(each.name for each in wanted)}).",
                self._contract,
            )
        count = min(len(names), len(places))
        return lambda *given: function(*given[len(given) - count :])

    def _told(self, run: Callable[[], Any]) -> Any:
        """Run code of the user's; what it raises becomes a ModelError that names its file and line."""
        try:
            return run()
        except (ModelError, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            self._log(error)
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> ModelError:
        where = self._where(error)
        if missing := _missing(error, where):
            return missing
        if isinstance(error, (PermissionError, FileNotFoundError)):
            return ModelError(
                "not_allowed" if isinstance(error, PermissionError) else "code_failed",
                f"{where}{said(error)}",
                self._files,
            )
        return ModelError("code_failed", f"{where}{said(error)}", "The traceback is in the log of the validation.")

    def _where(self, error: BaseException) -> str:
        """ "predict.py, line 12: " of the deepest line that is the user's own."""
        if isinstance(error, SyntaxError) and error.filename and self._own(error.filename):
            return f"{os.path.relpath(error.filename, self._root)}, line {error.lineno}: "
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if self._own(frame.filename)]
        return f"{os.path.relpath(own[-1].filename, self._root)}, line {own[-1].lineno}: " if own else f"{self.name}: "

    def _log(self, error: BaseException) -> None:
        """Its own lines and those of the libraries it called; none of ours."""
        start = error.__traceback__
        while start is not None and not self._own(start.tb_frame.f_code.co_filename):
            start = start.tb_next
        with contextlib.suppress(Exception):  # whatever its __str__ does
            _print(error, start)

    def _own(self, filename: str) -> bool:
        return filename.startswith(self._root + os.sep)


def _print(error: BaseException, start: TracebackType | None) -> None:
    lines = traceback.format_exception(type(error), error, start, chain=False)
    sys.stderr.write("".join(lines))
    sys.stderr.flush()


def _missing(error: BaseException, where: str = "") -> ModelError | None:
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    top = error.name.partition(".")[0]
    return ModelError(
        "module_missing",
        f"{where}The module {top!r} is not there.",
        f"Name its package in requirements.txt; if {top!r} is a file of yours, put {top}.py into the folder.",
    )


def _stand_in_for_main(module: ModuleType) -> None:
    """A class that was pickled in a script is looked for in ``__main__``: those of predict.py are found there."""
    main = sys.modules.get("__main__")
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and value.__module__ == module.__name__ and not hasattr(main, name):
            setattr(main, name, value)
