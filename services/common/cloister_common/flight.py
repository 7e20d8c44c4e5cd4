"""What several gateways have under way at the same pods: each tells each pod, and hears of the others.

With every look at a pod's load a gateway says (`HEADER`) what it has under way of the pod's model, over all of its
pods, and which tenants' requests come and need not wait. The pod keeps the newest word of each for a few seconds
(`Board`), and answers with the sum of the others'. So gateways know of each other where it matters, at the pods that
they share, without a store between them: one that sees another pods' half acts on that half alone.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["HEADER", "MOST_NAMES", "Board", "Flight", "flight_of", "told"]

HEADER = "x-cloister-flight"

MOST_NAMES = 16
"""Tenants that one gateway names: that there are some is what counts."""

_KEPT_SECONDS = 4.0
"""A gateway asks every second and waits one for the answer: two words may be lost on the way."""
_MOST_GATEWAYS = 256


class Flight(NamedTuple):
    """What is under way at the pods of a model.

    Attributes:
        tokens: Of prompts and answers, by the gateways' estimate.
        requests: How many.
        gateways: Whose it is.
        light: Names, which only gateways understand, of tenants whose requests come and need not wait.
    """

    tokens: int = 0
    requests: int = 0
    gateways: int = 0
    light: frozenset[str] = frozenset()

    def body(self) -> dict[str, Any]:
        """The same in a pod's answer."""
        return {
            "tokens": self.tokens,
            "requests": self.requests,
            "gateways": self.gateways,
            "light": sorted(self.light),
        }


def told(gateway: str, flight: Flight) -> str:
    """The header's value for what ``gateway`` has under way."""
    return f"{gateway} {flight.tokens} {flight.requests} {','.join(sorted(flight.light)[:MOST_NAMES])}"


def flight_of(body: Any) -> Flight:
    """What a pod says of the others; nothing, where it says nothing, as one of the version before does."""
    match body:
        case {"tokens": int(tokens), "requests": int(requests), "gateways": int(gateways), "light": list(light)}:
            return Flight(max(tokens, 0), max(requests, 0), max(gateways, 0), frozenset(map(str, light)))
    return Flight()


class Board:
    """The newest word of each gateway, in a pod."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._words: dict[str, tuple[float, Flight]] = {}

    def note(self, headers: Mapping[str, str]) -> Flight:
        """Takes the word of whoever asks, if it has one; gives the others' together."""
        now = self._clock()
        self._words = {name: word for name, word in self._words.items() if now - word[0] < _KEPT_SECONDS}
        gateway = ""
        match headers.get(HEADER, "").split(" "):
            case [gateway, tokens, requests, names] if tokens.isdecimal() and requests.isdecimal():
                light = frozenset(name for name in names.split(",")[:MOST_NAMES] if name)
                if gateway in self._words or len(self._words) < _MOST_GATEWAYS:
                    self._words[gateway] = now, Flight(int(tokens), int(requests), 1, light)
        others = [word for name, (_, word) in self._words.items() if name != gateway]
        return Flight(
            sum(word.tokens for word in others),
            sum(word.requests for word in others),
            len(others),
            frozenset().union(*(word.light for word in others)),
        )
