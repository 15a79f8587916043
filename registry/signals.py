"""What higher apps may want to know at once. Sent inside the transaction that made the version ready."""

from django.dispatch import Signal

version_ready = Signal()  # sender=ModelVersion, version=<row>
