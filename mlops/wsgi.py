"""The web process. It never imports a machine-learning library: models run in runners (mlops/runtime)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
application = get_wsgi_application()
