"""What a prompt is made of: how many of its tokens are instructions, history, excerpts, functions and what is new.

A pod says how many tokens a prompt has in all. They are told apart here without asking it again:

- ``tools`` are what the functions take of a prompt, which was counted once for this set of them;
- the others have of what remains the share that they have of the text, in bytes, with sixteen for each message,
  which stand for what the chat template puts around it. What the template says before the first message and behind the
  last is shared in the same way.

So the parts always sum to what the pod counted, and one of which nothing is in the prompt is 0. Where nobody waits for
a token, as in ``POST /v1/responses/input_tokens``, they are counted instead (`counted`): each is what the prompt has
more with it than without, in the order in which they stand there. What the template says of itself, before the first
message and where it opens the answer, is then the first part's that the prompt has.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_gateway.prompt.history import IMAGE_TOKENS, MESSAGE_OVERHEAD_TOKENS
from cloister_gateway.wire.items import Message

__all__ = ["Layout", "Parts", "counted", "weight"]

_MESSAGE_BYTES = 16
"""Around a message: four tokens or five, with the templates we know."""

_IMAGE_BYTES = 4096
"""For an image: about a thousand tokens."""


class Parts(NamedTuple):
    """A prompt's tokens by part, or what they are shared by."""

    system: int = 0
    history: int = 0
    retrieved: int = 0
    tools: int = 0
    new: int = 0


class Layout(NamedTuple):
    """How a prompt is laid out.

    Attributes:
        weights: What the tokens are shared by; of the tools, their tokens.
        ends: Behind how many of its messages system, history and excerpts end. (A call that is sent together with the
            message before it may shift them; then they say nothing.)
    """

    weights: Parts = Parts()
    ends: tuple[int, int, int] = (0, 0, 0)

    def split(self, tokens: int, *, beside: int = 0) -> Parts:
        """The parts of a prompt with so many ``tokens``, which they sum to; with ``beside`` more for a search."""
        tools = min(self.weights.tools, tokens)
        text = self.weights._replace(tools=0)
        all_of_it, left = sum(text), tokens - tools
        if not all_of_it:
            return Parts(new=left, tools=tools, retrieved=beside)
        shares = [left * weight // all_of_it for weight in text]
        # What the divisions leave goes where they cut most off.
        by_rest = sorted(range(len(text)), key=lambda place: (-(left * text[place] % all_of_it), place))
        for place in by_rest[: left - sum(shares)]:
            shares[place] += 1
        parts = Parts(*shares)
        return parts._replace(tools=tools, retrieved=parts.retrieved + beside)


def weight(bound: int, messages: int, images: int) -> int:
    """What tokens are shared by: the bytes of so many messages with so many images, of which ``bound`` is the
    `cloister_gateway.prompt.history.upper_bound`."""
    return bound - (MESSAGE_OVERHEAD_TOKENS - _MESSAGE_BYTES) * messages - (IMAGE_TOKENS - _IMAGE_BYTES) * images


async def counted(
    messages: Sequence[Message], layout: Layout, tokens: int, count: Callable[[Sequence[Message]], Awaitable[int]]
) -> Parts:
    """The parts of a prompt of ``messages`` that has ``tokens`` in all, by the model's own tokenizer (``count``).

    Raises:
        CloisterError: As ``count``: some templates do not take the beginning of a prompt without its end.
    """
    weights = layout.weights
    ends = [end if weight else 0 for end, weight in zip(layout.ends, weights[:3], strict=True)]
    sums = [0]
    for end in ends:
        sums.append(await count(messages[:end]) if end else sums[-1])
    whole = await count(messages) if weights.tools else tokens
    system, history, retrieved = (sums[place + 1] - sums[place] for place in range(3))
    return Parts(system, history, retrieved, tokens - whole, whole - sums[-1])
