"""Ids of the items of a response, from which the response is found: a caller may name an item (``item_reference``).

Such an id is the response's, with the item's own prefix and its place behind it, so that no index has to be written
with each turn. It is as hard to guess as the response's; and a hint like any id, not a right: whose the response is,
its record tells. Items put into a conversation by themselves have ids of chance, and are found in that conversation.
"""

from cloister_gateway.storage.layout import RESPONSE

__all__ = ["input_id", "output_id", "prefix_of", "response_of"]

_PLACE_DIGITS = 3
_INPUT = 0x800
"""Where the places of the input begin: before them are those of the output."""


def output_id(prefix: str, response_id: str, place: int) -> str:
    """The id of an output item, ``prefix`` with its separator."""
    return f"{prefix}{response_id.removeprefix(f'{RESPONSE}_')}{place:0{_PLACE_DIGITS}x}"


def input_id(prefix: str, response_id: str, place: int) -> str:
    """The id of an input item."""
    return output_id(prefix, response_id, _INPUT + place)


def prefix_of(item_id: str) -> str:
    """How the id begins: what kind of item it is, and whose."""
    return item_id[: item_id.find("_") + 1]


def response_of(item_id: str) -> str:
    """The id of the response that the item would be of, if it is of one."""
    return f"{RESPONSE}_{item_id[len(prefix_of(item_id)) : -_PLACE_DIGITS]}"
