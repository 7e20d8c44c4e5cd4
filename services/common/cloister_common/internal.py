"""How our services know each other: a bearer token per callee, and the tenant the gateway speaks for.

Each callee (embedder, retriever, llm) has a token file of its own, so that a compromised llm pod holds nothing that
opens the retriever. A file may hold several tokens, one a line: callers send the first, callees accept all, which is
how a token is rotated without an interruption. The tenant of a call travels in `TENANT_HEADER`; only a caller with
the token can set it.
"""

import hmac
from collections.abc import Iterable

from starlette.requests import HTTPConnection

from cloister_common.errors import InvalidRequest, Unauthenticated

__all__ = ["TENANT_HEADER", "InternalTokens", "tenant_of"]

TENANT_HEADER = "x-cloister-tenant"


class InternalTokens:
    """The tokens of one callee."""

    def __init__(self, tokens: Iterable[bytes]) -> None:
        self._tokens = list(tokens)
        if not self._tokens:
            raise ValueError("at least one internal token is needed")

    def headers(self, tenant: str | None = None) -> dict[str, str]:
        """What a caller sends."""
        headers = {"authorization": f"Bearer {self._tokens[0].decode()}"}
        if tenant is not None:
            headers[TENANT_HEADER] = tenant
        return headers

    def accepts(self, authorization: str | bytes | None) -> bool:
        """Whether an ``Authorization`` header value carries one of the tokens. Compares in constant time."""
        if not authorization:
            return False
        value = authorization.encode("latin-1", "replace") if isinstance(authorization, str) else authorization
        scheme, _, token = value.partition(b" ")
        matches = [hmac.compare_digest(token, known) for known in self._tokens]
        return scheme.lower() == b"bearer" and any(matches)

    def require(self, connection: HTTPConnection) -> None:
        """Raises `Unauthenticated` unless the connection carries one of the tokens."""
        if not self.accepts(connection.headers.get("authorization")):
            raise Unauthenticated("This is an internal service: it answers only Cloister's own parts.")


def tenant_of(connection: HTTPConnection) -> str:
    """The tenant an internal call is made for.

    Raises:
        InvalidRequest: The header is missing or is not an id.
    """
    tenant = connection.headers.get(TENANT_HEADER, "")
    if len(tenant) > 128 or not tenant.isascii() or not tenant.replace("_", "").replace("-", "").isalnum():
        raise InvalidRequest(f"The header {TENANT_HEADER} must carry the tenant's id.", param=TENANT_HEADER)
    return tenant
