"""The one place where HTTP clients are made, so that TLS, deadlines and pools are the same everywhere.

httpx carries control calls between services. The token path (gateway → llm) has its own client, see
``cloister_gateway.models.connections``: httpx would cost it more than all the rest of a request.
"""

import ssl

import httpx

from cloister_common.certificates import client_context
from cloister_common.settings import ClientTls

__all__ = ["client_ssl_context", "http_client"]


def client_ssl_context(tls: ClientTls) -> ssl.SSLContext:
    """A context that verifies servers against ``tls.ca_file`` (or the system's CAs) and speaks TLS 1.3 only."""
    return client_context(tls.ca_file, ssl.TLSVersion.TLSv1_3)


def http_client(
    base_url: str, *, tls: ClientTls, timeout_seconds: float = 30.0, connections: int = 100
) -> httpx.AsyncClient:
    """An httpx client for one of our own services. ``timeout_seconds`` bounds each read, write and pool wait."""
    return httpx.AsyncClient(
        base_url=base_url,
        verify=client_ssl_context(tls) if base_url.startswith("https:") else _trusts_nobody(),
        timeout=httpx.Timeout(timeout_seconds, connect=2.0),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        follow_redirects=False,
        trust_env=False,
    )


def _trusts_nobody() -> ssl.SSLContext:
    """For connections in the clear. It would refuse every certificate, and costs nothing: loading CAs takes 40 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
