"""Ray Serve: a deployment of two replicas behind its HTTP proxy."""

from __future__ import annotations

import sys
from typing import Any

from tests.bench.peers import WORKERS, Peer

PEER = Peer(
    "Ray Serve",
    "ray",
    lambda start: [str(start.python), "-m", __name__, str(start.port), str(start.folder)],
    variables={"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"},
    start_s=120,
    restless=True,
)


def main() -> None:
    import ray
    from ray import serve

    @serve.deployment(num_replicas=WORKERS, ray_actor_options={"num_cpus": 0.5}, max_ongoing_requests=100)
    class Classifier:
        def __init__(self) -> None:
            from tests.bench.peers.by_hand import native

            self.model = native()

        async def __call__(self, request: Any) -> dict[str, Any]:
            return {"probabilities": self.model((await request.json())["inputs"])}

    ray.init(include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20, _temp_dir=sys.argv[2])
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1]), "access_log": False})
    serve.run(Classifier.bind(), route_prefix="/predict", blocking=True)


if __name__ == "__main__":
    main()
