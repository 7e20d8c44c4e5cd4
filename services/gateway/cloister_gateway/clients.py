"""The clients of the services beside the gateway, as its settings say."""

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.clients.retriever import RetrieverClient
from cloister_common.internal import InternalTokens
from cloister_common.settings import read_secret_lines

from cloister_gateway.settings import EmbedderSettings, RetrieverSettings

__all__ = ["embedder_client", "retriever_client"]


def embedder_client(settings: EmbedderSettings) -> EmbedderClient:
    """Of the embedder. Raises `SettingsError` where its token is missing."""
    return EmbedderClient(
        settings.url,
        InternalTokens(read_secret_lines(settings.token_file, what="the embedder's token")),
        settings.tls,
        settings.attribution_model,
        deadline_seconds=settings.timeout_seconds,
    )


def retriever_client(settings: RetrieverSettings) -> RetrieverClient:
    """Of the retriever. Raises `SettingsError` where its token is missing."""
    return RetrieverClient(
        settings.url,
        InternalTokens(read_secret_lines(settings.token_file, what="the retriever's token")),
        settings.tls,
        deadline_seconds=settings.timeout_seconds,
    )
