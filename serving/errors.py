"""What deploying and predicting may be refused for."""

from __future__ import annotations

from mlops.core import errors
from mlops.runtime.errors import HostError


class NotDeployable(errors.SlipwayError):
    """This version cannot be live here."""

    code, status = "not_deployable", 409


class NotDeployed(errors.NotReady):
    """The deployment exists, but nothing answers for it."""

    code = "not_deployed"


# The runner calls it 500 when the model's own code raised: to the caller the model is what is upstream of us.
_STATUS = {500: 502}


def from_host(error: HostError) -> errors.SlipwayError:
    """A runner host's error in the product's words; 503 always says when to try again."""
    status = _STATUS.get(error.status, error.status)
    retry_after_s = error.retry_after_s
    if retry_after_s is None and status == 503:
        retry_after_s = 5.0
    return errors.SlipwayError(
        error.detail, code=error.code, hint=error.hint, status=status, retry_after_s=retry_after_s
    )
