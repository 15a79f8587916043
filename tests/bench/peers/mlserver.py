"""MLServer, in the Open Inference Protocol; its own runtimes for scikit-learn and XGBoost, a custom one for torch."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.bench.peers import WORKERS, Peer, Rows, Start

_RUNTIMES = {
    "lr": ("mlserver_sklearn.SKLearnModel", "model.joblib"),
    "forest": ("mlserver_sklearn.SKLearnModel", "model.joblib"),
    "xgb": ("mlserver_xgboost.XGBoostModel", "model.ubj"),
    "mlp": (f"{__name__}.Torch", "model.pt"),
}


def _command(start: Start) -> list[str]:
    runtime, file = _RUNTIMES[start.model]
    settings = {"host": "127.0.0.1", "parallel_workers": WORKERS, "debug": False}
    settings |= dict(zip(("http_port", "grpc_port", "metrics_port"), start.ports, strict=False))
    model = {
        "name": "bench",
        "implementation": runtime,
        "parameters": {"uri": str(start.models / start.model / file), "version": "v1"},
    }
    (start.folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    (start.folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    return [start.tool("mlserver"), "start", str(start.folder)]


def _body(rows: Rows) -> Any:
    flat = [value for row in rows for value in row]
    tensor = {"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
    return {"inputs": [tensor], "outputs": [{"name": "predict_proba"}]}


def _probabilities(said: Any) -> Rows:
    (found,) = said["outputs"]
    width = found["shape"][1]
    return [found["data"][start : start + width] for start in range(0, len(found["data"]), width)]


PEER = Peer("MLServer", "mlserver", _command, _body, _probabilities, path="/v2/models/bench/infer")

if os.environ.get("BENCH_PEER") == "mlserver":  # where it is installed
    from mlserver import MLModel
    from mlserver.codecs import NumpyCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    class Torch(MLModel):
        async def load(self) -> bool:
            import torch

            torch.set_num_threads(1)
            self.torch, self.model = torch, torch.jit.load(self.settings.parameters.uri).eval()
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            rows = NumpyCodec.decode_input(payload.inputs[0])
            with self.torch.inference_mode():
                found = self.model(self.torch.from_numpy(rows).float()).numpy()
            return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predict_proba", found)])
