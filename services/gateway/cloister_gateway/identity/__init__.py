"""Who calls, and what they may do: projects, service accounts, API keys."""

from cloister_gateway.identity.authenticator import Authenticator
from cloister_gateway.identity.guard import LET_END, GuardMiddleware, require
from cloister_gateway.identity.principal import Principal

__all__ = ["LET_END", "Authenticator", "GuardMiddleware", "Principal", "require"]
