"""The web process. It never imports a machine-learning library: models run in runners (mlops/runtime)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops.settings")
application = get_wsgi_application()


def _refuse_two_organizations_that_share_this_process() -> None:
    """Models that run in this process could read everybody's data: see accounts.trust. Raises ImproperlyConfigured."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import connection

    from accounts import trust

    refusal = trust.refusal()
    connection.close()
    if refusal:
        raise ImproperlyConfigured(refusal)


_refuse_two_organizations_that_share_this_process()
