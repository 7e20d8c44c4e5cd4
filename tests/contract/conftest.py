"""What all tests with sockets share."""

from tests.support.certificates import one_authority

__all__ = ["one_authority"]
