"""LitServe: two inference workers behind its own API servers."""

from __future__ import annotations

import os
import sys

from tests.bench.peers import WORKERS, Peer

PEER = Peer(
    "LitServe",
    "litserve",
    lambda start: [str(start.python), "-c", f"from {__name__} import main; main()", str(start.port)],
)

if os.environ.get("BENCH_PEER") == "litserve":  # where it is installed
    import litserve

    class Api(litserve.LitAPI):
        def setup(self, device: str) -> None:
            from tests.bench.peers.by_hand import native

            self.model = native()

        def decode_request(self, request):  # it reads annotations, and knows only its own
            return request["inputs"]

        def predict(self, rows):
            return self.model(rows)

        def encode_response(self, found):
            return {"probabilities": found}


def main() -> None:
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
