"""The error tree that every service shares, and its one wire shape: OpenAI's error object.

    CloisterError                    500  server_error
    ├── InvalidRequest               400  invalid_request_error
    │   └── UnsupportedParameter     400  code unsupported_parameter
    ├── Unauthenticated              401  authentication_error
    ├── Forbidden                    403  permission_error
    ├── NotFound                     404  not_found
    ├── RequestTimeout               408  request_timeout
    ├── Conflict                     409  conflict
    ├── PayloadTooLarge              413  request_too_large
    ├── UnsupportedMediaType         415  unsupported_media_type
    ├── ExpectationFailed            417  expectation_failed
    ├── TooManyRequests              429  rate_limit_exceeded
    ├── HeadTooLarge                 431  request_head_too_large
    ├── CallerGone                   499  client_closed_request
    ├── UpstreamFailed               502  upstream_failed
    └── Unavailable                  503  unavailable

Services raise these; `cloister_common.app` turns them into responses. Each class carries its HTTP status, its
stable `code`, OpenAI's error `type` and the close code a WebSocket gets for it. A message names the field and the
mend and never carries content, keys or addresses of the inside.
"""

from typing import Any, ClassVar

__all__ = [
    "CloisterError",
    "Conflict",
    "ExpectationFailed",
    "Forbidden",
    "HeadTooLarge",
    "InvalidRequest",
    "NotFound",
    "PayloadTooLarge",
    "RequestTimeout",
    "TooManyRequests",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedMediaType",
    "UnsupportedParameter",
    "UpstreamFailed",
    "error_object",
]


_LONGEST_NAME = 256


class CloisterError(Exception):
    """Base of all errors a caller may see.

    Args:
        message: A sentence for the caller: what is wrong and how to mend it.
        param: The field at fault, as the caller wrote it (``input[0].content``), if one is.
        code: A more precise stable code than the class's own.
        retry_after: Whole seconds after which trying again makes sense (sent as ``Retry-After``).
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "server_error"
    type: ClassVar[str] = "server_error"
    close_code: ClassVar[int] = 1011

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.error_code = code or type(self).code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The JSON body OpenAI's clients expect: ``{"error": {message, type, param, code}}``."""
        return error_object(self.message, type=type(self).type, param=self.param, code=self.error_code)

    def headers(self) -> dict[str, str]:
        """Headers that belong to the error."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


class InvalidRequest(CloisterError):
    """The request is malformed or contradicts itself."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    close_code = 1008


class UnsupportedParameter(InvalidRequest):
    """A parameter, or a value of one, that OpenAI knows and we do not serve. Refused by name, never ignored."""

    code = "unsupported_parameter"

    def __init__(self, param: str, message: str | None = None) -> None:
        # A name that nobody knows may be as long as a body.
        param = param if len(param) <= _LONGEST_NAME else f"{param[:_LONGEST_NAME]}…"
        super().__init__(message or f"Unsupported parameter: '{param}'. Leave it out.", param=param)


class Unauthenticated(CloisterError):
    """No credential, or one that is wrong, expired or revoked."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"
    close_code = 4401

    def headers(self) -> dict[str, str]:
        """RFC 9110, 15.5.2: a 401 says how to authenticate."""
        return {**super().headers(), "www-authenticate": "Bearer"}


class Forbidden(CloisterError):
    """A good credential that may not do this."""

    status = 403
    code = "insufficient_permissions"
    type = "permission_error"
    close_code = 4403


class NotFound(CloisterError):
    """Unknown, or another tenant's: the two look the same on purpose."""

    status = 404
    code = "not_found"
    type = "invalid_request_error"
    close_code = 1008


class RequestTimeout(CloisterError):
    """The request came in too slowly to be waited for."""

    status = 408
    code = "request_timeout"
    type = "invalid_request_error"
    close_code = 1008


class Conflict(CloisterError):
    """The state of the object does not allow this now."""

    status = 409
    code = "conflict"
    type = "invalid_request_error"
    close_code = 1008


class PayloadTooLarge(CloisterError):
    """The body, file or frame is over a limit that the message names."""

    status = 413
    code = "request_too_large"
    type = "invalid_request_error"
    close_code = 1009


class UnsupportedMediaType(CloisterError):
    """The body is in a form that is not read."""

    status = 415
    code = "unsupported_media_type"
    type = "invalid_request_error"
    close_code = 1003


class ExpectationFailed(CloisterError):
    """``Expect`` asks for something that nobody here does."""

    status = 417
    code = "expectation_failed"
    type = "invalid_request_error"
    close_code = 1008


class TooManyRequests(CloisterError):
    """A limit or a full queue; ``retry_after`` says when to come back."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    close_code = 4429


class HeadTooLarge(CloisterError):
    """The URL and the headers are over a limit that the message names."""

    status = 431
    code = "request_head_too_large"
    type = "invalid_request_error"
    close_code = 1009


class CallerGone(CloisterError):
    """The client closed the connection: nobody reads the answer, which carries nginx's status for the log."""

    status = 499
    code = "client_closed_request"
    type = "invalid_request_error"
    close_code = 1001

    def __init__(self) -> None:
        super().__init__("The client closed the connection.")


class UpstreamFailed(CloisterError):
    """A service behind this one answered wrongly."""

    status = 502
    code = "upstream_failed"


class Unavailable(CloisterError):
    """A service behind this one is down or not ready."""

    status = 503
    code = "unavailable"
    close_code = 1013


def error_object(message: str, *, type: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error object, the only error shape on any wire of ours."""
    return {"error": {"message": message, "type": type, "param": param, "code": code}}
