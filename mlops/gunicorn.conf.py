"""gunicorn for the web process: threads, because a request mostly waits for a runner or the database."""

import os

bind = os.environ.get("SLIPWAY_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("SLIPWAY_WEB_PROCESSES", "2"))
threads = int(os.environ.get("SLIPWAY_WEB_THREADS", "8"))
worker_class = "gthread"
keepalive = 30
timeout = 120  # an upload of 5 GB over a slow line must not be cut
graceful_timeout = 30
control_socket_disable = True  # gunicorn 27 would put a control socket into the home folder
reuse_port = False
accesslog = None
errorlog = "-"
loglevel = "warning"
wsgi_app = "mlops.wsgi:application"
proc_name = "slipway-web"
