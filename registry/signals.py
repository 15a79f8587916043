"""What higher apps may want to know at once. Sent inside the transaction of the deed."""

from django.dispatch import Signal

version_ready = Signal()  # sender=ModelVersion, version=<row>
version_switched = Signal()  # sender=ModelVersion, version=<row>: it answers in another form from now on
push_moved = Signal()  # sender=SourcePush, push=<row>: received, on to another status, now of a pull request, or to be told with another credential
