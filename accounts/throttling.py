"""Limits on calls, shared by all workers."""

from __future__ import annotations

from rest_framework.throttling import BaseThrottle


class ApiThrottle(BaseThrottle):
    pass
