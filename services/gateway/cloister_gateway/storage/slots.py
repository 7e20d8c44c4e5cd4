"""Ids that bring their object into a slot of a Redis Cluster: what is written in one step must lie in one slot.

Redis Cluster has 16,384 slots, and the slot of a key is CRC-16 (XMODEM) of its hash tag, the part in braces: of an
object's id (`cloister_gateway.storage.layout`). A turn writes into its response and into its conversation, so the id
of the response is chosen so that both have one slot. CRC is linear: a text with fourteen digits 0 or 1 at its end can
be brought into each slot, and by exactly one choice of them. Before them such an id has 136 random bits, and it is as
long as any other.

Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
"""

from binascii import crc_hqx
from functools import cache
from itertools import product
from secrets import token_hex

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

__all__ = ["is_steered", "new_id_beside", "slot_of"]

_RANDOM_DIGITS = 34
_STEERING_DIGITS = 14
"""Two to the power of them are the slots."""


def slot_of(key: str) -> int:
    """The slot in which a key lies."""
    return int(key_slot(key.encode()))


def new_id_beside(prefix: str, key: str) -> str:
    """A fresh id whose last digits bring it into the slot of ``key``."""
    stem = prefix + token_hex(_RANDOM_DIGITS // 2)
    reached = crc_hqx(b"\0" * _STEERING_DIGITS, crc_hqx(stem.encode(), 0)) % REDIS_CLUSTER_HASH_SLOTS
    return stem + _steering()[reached ^ slot_of(key)]


def is_steered(object_id: str) -> bool:
    """Whether `new_id_beside` made the id. (One of 4·10¹² of those that are random to their end looks so too.)"""
    return not object_id[-_STEERING_DIGITS:].strip("01")


@cache
def _steering() -> list[str]:
    """The digits by what they change of a slot. (20 ms and 1 MiB, once.)"""
    digits = [""] * REDIS_CLUSTER_HASH_SLOTS
    for choice in product("01", repeat=_STEERING_DIGITS):
        text = "".join(choice)
        digits[crc_hqx(text.encode(), 0) % REDIS_CLUSTER_HASH_SLOTS] = text
    return digits
