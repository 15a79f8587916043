"""``mlflow models serve`` on a model saved with its own flavour."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench.peers import WORKERS, Peer, Start


def _saved(start: Start) -> Path:
    return start.folder / "saved"


def _command(start: Start) -> list[str]:
    serve = [start.tool("mlflow"), "models", "serve", "-m", str(_saved(start)), "--env-manager", "local"]
    return [*serve, "--host", "127.0.0.1", "--port", str(start.port), "--workers", str(WORKERS)]


PEER = Peer(
    "mlflow models serve",
    "mlflow",
    _command,
    probabilities=lambda said: said["predictions"],
    path="/invocations",
    prepare=lambda start: [str(start.python), "-m", __name__, start.model, str(_saved(start))],
    variables={"MLFLOW_DISABLE_TELEMETRY": "true"},
)


def main() -> None:
    name, target = sys.argv[1:]
    import mlflow
    import numpy as np

    from tests.bench.peers.by_hand import chosen

    _, folder = chosen()
    if name in ("lr", "forest"):
        import joblib

        model = joblib.load(folder / "model.joblib")  # noqa: TID251
        mlflow.sklearn.save_model(model, target, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle")
        return

    class Classifier(mlflow.pyfunc.PythonModel):
        def load_context(self, context: object) -> None:
            from tests.bench.peers.by_hand import native

            self.model = native()

        def predict(self, context: object, model_input: np.ndarray) -> list[list[float]]:
            return self.model(model_input)

    # Its own flavours for these two answer one column of scores; a pyfunc gives the probabilities that everyone else gives.
    mlflow.pyfunc.save_model(target, python_model=Classifier())


if __name__ == "__main__":
    main()
