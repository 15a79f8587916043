"""The opponent: a hand-written FastAPI server around joblib, no key check, no log. ``python -m tests.bench.peer MODEL PORT``."""

from __future__ import annotations

import sys
from typing import Any

import joblib
import pandas as pd
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Rows(BaseModel):
    inputs: list[dict[str, Any]]


def main() -> None:
    model = joblib.load(sys.argv[1])
    app = FastAPI()

    @app.post("/predict")
    def predict(body: Rows) -> dict[str, Any]:
        frame = pd.DataFrame(body.inputs)
        probabilities = model.predict_proba(frame)
        return {
            "predictions": model.classes_[probabilities.argmax(1)].tolist(),
            "probabilities": probabilities.tolist(),
        }

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
