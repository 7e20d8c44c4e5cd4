"""Chat models: which there are, which pod serves the next request, and the client that speaks to it."""

from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.upstream import ModelUpstream, open_upstream

__all__ = ["Catalog", "ChatModel", "ModelUpstream", "open_upstream"]
