"""Limits that hold: what a generation may use is reserved before it, at all levels at once, and settled after it."""

from cloister_gateway.limits.service import Limits

__all__ = ["Limits"]
