"""How many tokens a request comes to at its pod, before anybody has counted: learnt from those that have ended."""

import re

__all__ = ["Estimates", "usage_in"]

_TOKENS_A_BYTE = 0.25
"""Of a request's JSON, until requests of this model have shown how many there are."""
_NEW = 0.05
"""Weight of one request against all before it."""
_HELD_OF_ANSWER = 0.5
"""A request that is answered has half of its answer in the pod's cache, on the mean over its time there. Where several
are longer together than they were expected to be, vLLM puts off the least urgent, and computes it again."""

_USED = re.compile(rb'"prompt_tokens": ?(\d+).{0,80}?"completion_tokens": ?(\d+)', re.DOTALL)


def usage_in(answer: bytes) -> tuple[int, int] | None:
    """The tokens of prompt and answer that the end of a pod's answer says; None where it says nothing."""
    place = answer.rfind(b'"usage":')
    found = _USED.search(answer, place) if place >= 0 else None
    return None if found is None else (int(found[1]), int(found[2]))


class Estimates:
    """Those of one model."""

    def __init__(self) -> None:
        self._density = _TOKENS_A_BYTE
        self._answer: float | None = None

    def tokens(self, size: int, most: int) -> int:
        """What a request takes of a pod's cache, on the mean over its time there.

        Args:
            size: Bytes of its JSON, without images.
            most: The longest answer, in tokens. As long as no answer has shown how long they are, all of it counts.
        """
        answer = most if self._answer is None else min(most, self._answer * _HELD_OF_ANSWER)
        return max(1, round(size * self._density + answer))

    def learn(self, size: int, prompt: int, output: int) -> None:
        """What a request of ``size`` bytes came to."""
        self._density += _NEW * (prompt / max(size, 1) - self._density)
        self._answer = float(output) if self._answer is None else self._answer + _NEW * (output - self._answer)
