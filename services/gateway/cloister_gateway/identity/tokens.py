"""The form of an API key: ``clo_<id>_<secret>_<check>``.

The id (16 characters of base 62, 95 bits) finds the record; the secret (43 characters, 256 bits) proves it; the check
(CRC-32 of all before it) lets a typing error be refused without a look-up, and lets secret scanners tell a key from
noise. Only an HMAC under the pepper is stored, so that a copy of the database opens nothing. It is made over id, secret
and what the key grants: whoever can write to the database cannot give a key more rights, or another tenant.
"""

import hashlib
import hmac
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.vault import encode_context

__all__ = ["PREFIX", "ApiKey", "digest", "matches", "mint", "parse"]

PREFIX = "clo_"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_LENGTH = 16
_SECRET_LENGTH = 43
_CHECK_LENGTH = 6
_PATTERN = re.compile(
    rf"{PREFIX}(?P<id>[0-9A-Za-z]{{{_ID_LENGTH}}})_(?P<secret>[0-9A-Za-z]{{{_SECRET_LENGTH}}})"
    rf"_(?P<check>[0-9A-Za-z]{{{_CHECK_LENGTH}}})"
)


class ApiKey(NamedTuple):
    """The parts of a key."""

    id: str
    """``key_`` and the id in the token: the public name of the key."""
    secret: str
    token: str
    """The whole key, as its owner sends it."""

    @property
    def redacted(self) -> str:
        """What may be shown again: the beginning and the last characters of the check, nothing of the secret."""
        return f"{PREFIX}{self.id.removeprefix('key_')[:6]}…{self.token[-3:]}"


def mint() -> ApiKey:
    """A fresh random key."""
    key_id = _random(_ID_LENGTH)
    secret = _random(_SECRET_LENGTH)
    body = f"{PREFIX}{key_id}_{secret}"
    return ApiKey(f"key_{key_id}", secret, f"{body}_{_check(body)}")


def parse(token: str) -> ApiKey | None:
    """The parts of ``token``, or None if it has not the form of a key or its check is wrong."""
    found = _PATTERN.fullmatch(token)
    if found is None or _check(token[: -_CHECK_LENGTH - 1]) != found["check"]:
        return None
    return ApiKey(f"key_{found['id']}", found["secret"], token)


def digest(pepper: bytes, key: ApiKey, *grant: str) -> bytes:
    """What is stored of a key: HMAC-SHA256 under the pepper over id, secret and what it grants."""
    return hmac.new(pepper, encode_context("api-key", key.id, key.secret, *grant), hashlib.sha256).digest()


def matches(peppers: Sequence[bytes], key: ApiKey, stored: bytes, *grant: str) -> bool:
    """Whether ``key`` was stored, with this grant, under any of the peppers. Compares in constant time."""
    return any(hmac.compare_digest(digest(pepper, key, *grant), stored) for pepper in peppers)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _check(body: str) -> str:
    value = zlib.crc32(body.encode("ascii"))
    digits = []
    for _ in range(_CHECK_LENGTH):
        value, digit = divmod(value, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
