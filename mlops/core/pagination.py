"""Lists answer ``{"results": [...], "next": url | null}`` and never skip or repeat a row that was there at the start."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView


class CursorPages(CursorPagination):
    page_size_query_param = "limit"
    max_page_size = 200
    ordering = "-pk"

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link()})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["results", "next"],
            "properties": {"results": schema, "next": {"type": "string", "nullable": True, "format": "uri"}},
        }


def listed(view: APIView, request: Request, rows: Any, serializer: type[Serializer]) -> Response:
    """One page of ``rows`` as the answer of a list."""
    pages = CursorPages()
    page = pages.paginate_queryset(rows, request, view)
    return pages.get_paginated_response(serializer(page, many=True, context={"request": request}).data)
