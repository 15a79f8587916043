"""gunicorn for the web process: an event loop for predictions (serving/door.py), threads for Django behind it (mlops/bridge.py).

One listening socket for all workers, not one each (``reuse_port``): what waits in a worker's own queue would be lost when it ends.
"""

import gc
import os
from typing import Any

bind = os.environ.get("SLIPWAY_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("SLIPWAY_WEB_PROCESSES", "2"))
worker_class = "mlops.web_worker.WebWorker"
wsgi_app = "mlops.asgi:application"
asgi_loop = "auto"  # uvloop
http_parser = "auto"  # gunicorn_h1c where it is installed: it comes as C source
keepalive = 30  # also the time in which a request's headers must come
timeout = 120  # an upload of 5 GB over a slow line must not be cut
graceful_timeout = 30
websocket_max_message_size = 1 << 20  # what serving/websocket.py takes
control_socket_disable = True  # gunicorn 27 would put a control socket into the home folder
reuse_port = False
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "slipway-web"


def post_fork(server: Any, worker: Any) -> None:
    """Imports make hundreds of thousands of objects that stay: looking through them for garbage takes a fifth of the start."""
    gc.disable()


def post_worker_init(worker: Any) -> None:
    """What is there when the worker begins to serve is never looked through again: no pause of 0.1 s in the midst of predictions."""
    gc.freeze()
    gc.enable()


def on_reload(server: Any) -> None:
    from mlops.web_worker import succession

    succession.begin(server.worker_age + 1)
