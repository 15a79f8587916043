"""What deploying and predicting may be refused for."""

from __future__ import annotations

import orjson

from mlops.core import errors
from mlops.runtime.errors import HostError
from mlops.runtime.spec import Reply


class NotDeployable(errors.SlipwayError):
    """This version cannot be live here."""

    code, status = "not_deployable", 409


class NotDeployed(errors.NotReady):
    """The deployment exists, but nothing answers for it."""

    code = "not_deployed"


class Paused(errors.NotReady):
    """The deployment answers nobody for a while; its routes are kept."""

    code = "paused"


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


_MENDABLE = frozenset((400, 409, 413, 415, 422))


def from_reply(reply: Reply) -> errors.SlipwayError:
    """A runner's refusal in our frame. What a runner says is its tenant's claim: only known statuses pass."""
    try:
        said = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    return errors.SlipwayError(
        str(said.get("detail") or "The model failed."),
        code=str(said.get("code") or "model_error"),
        hint=str(said.get("hint") or ""),
        status=reply.status if reply.status in _MENDABLE else 502,
    )
