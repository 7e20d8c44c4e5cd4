"""Who calls, and what they may do: projects, service accounts, API keys."""

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.guard import GuardMiddleware, require
from cloister_gateway.identity.principal import Principal

__all__ = ["Authenticator", "GuardMiddleware", "Principal", "require"]
