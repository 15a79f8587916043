"""What higher apps may want to know at once. Sent inside the transaction that changed what is live."""

from django.dispatch import Signal

deployment_changed = Signal()  # sender=Deployment, deployment=<row>, version=<the live row>, kind=<Release.Kind>
