"""Chat models: which there are, which pod serves the next request, and the client that speaks to it."""

from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.faults import RequestFailed
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.registry import Registry
from cloister_gateway.models.upstream import ModelUpstream, open_upstream

__all__ = ["Attempts", "Catalog", "ChatModel", "ModelUpstream", "Registry", "RequestFailed", "open_upstream"]
