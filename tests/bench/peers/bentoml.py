"""BentoML: a service class and ``bentoml serve``."""

from __future__ import annotations

import os

from tests.bench.peers import WORKERS, Peer, Start


def _command(start: Start) -> list[str]:
    serve = [start.tool("bentoml"), "serve", f"{__name__}:Classifier"]
    return [*serve, "--host", "127.0.0.1", "--port", str(start.port)]


PEER = Peer("BentoML", "bentoml", _command, variables={"BENTOML_DO_NOT_TRACK": "True"})

if os.environ.get("BENCH_PEER") == "bentoml":  # where it is installed
    import bentoml

    @bentoml.service(workers=WORKERS)
    class Classifier:
        def __init__(self) -> None:
            from tests.bench.peers.by_hand import native

            self.model = native()

        @bentoml.api
        def predict(self, inputs: list[list[float]]) -> dict[str, list[list[float]]]:
            return {"probabilities": self.model(inputs)}
