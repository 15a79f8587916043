"""What came with a request, checked."""

from __future__ import annotations

from typing import Any

from rest_framework.serializers import Serializer


def given(serializer: type[Serializer], data: Any) -> dict[str, Any]:
    """The checked fields of a body (``request.data``) or a query. Raises ValidationError, which the edge turns into 422."""
    found = serializer(data=data)
    found.is_valid(raise_exception=True)
    return dict(found.validated_data)
