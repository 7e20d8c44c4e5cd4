"""Fits instructions, history, excerpts and the new message into the model's context, by a stated policy.

Policy ``auto`` (the default): the instructions, the operator's turns in the history (system, developer) and the new
message always stay; excerpts take at most half of the room, and no more than those leave, and lose the worst first;
history then loses its oldest turns, whole turns at a time, until the rest fits. What was dropped is counted and shown
in the response. Policy ``disabled``: nothing is dropped, and what does not fit is an error, as in OpenAI's API.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_gateway.grounding.excerpts import CITING, GROUNDING, Passage, documents_turn
from cloister_gateway.wire.items import Message

__all__ = ["Prompt", "PromptBuilder", "PromptTooLongError"]

CountTokens = Callable[[Sequence[Message]], Awaitable[int]]

_DOCUMENTS_SHARE = 0.5
_MESSAGE_OVERHEAD_TOKENS = 32
"""More than any chat template we know puts around one message."""


class PromptTooLongError(Exception):
    """What must stay does not fit."""

    def __init__(self, tokens: int, budget: int) -> None:
        super().__init__(f"{tokens} tokens, room for {budget}")
        self.tokens = tokens
        self.budget = budget


class Prompt(NamedTuple):
    """What goes to the model, and what had to stay out."""

    messages: list[Message]
    passages: list[Passage]
    dropped_messages: int


class PromptBuilder:
    """Builds prompts for one model.

    Args:
        count_tokens: Counts the tokens of rendered messages, with the model's own tokenizer.
        budget: How many tokens the prompt may have (the model's context less what is kept for the answer).
    """

    def __init__(self, count_tokens: CountTokens, *, budget: int) -> None:
        self._count_tokens = count_tokens
        self._budget = budget

    async def build(
        self,
        *,
        instructions: str | None,
        history: list[Message],
        passages: list[Passage],
        new: list[Message],
        drop: bool,
        cite: bool = True,
    ) -> Prompt:
        """Puts the prompt together.

        Args:
            instructions: The system turn, if there is one.
            history: Earlier messages, oldest first.
            passages: Excerpts, best first.
            new: The messages of this turn.
            drop: Whether history and excerpts may be left out (policy ``auto``).
            cite: Whether the model is asked to mark what it takes from which excerpt.

        Raises:
            PromptTooLongError: It does not fit, even with all dropped that may be.
        """
        boundary = secrets.token_hex(8)
        turns = _turns(history)
        grounding = f"{GROUNDING} {CITING}" if cite else GROUNDING

        def assemble(kept_turns: int, kept_passages: int) -> list[Message]:
            cut = len(turns) - kept_turns
            earlier = _operators(turns[:cut]) + [message for turn in turns[cut:] for message in turn]
            return _assemble(instructions, grounding, earlier, passages[:kept_passages], new, boundary)

        if drop:
            excerpts = await self._most(
                len(passages),
                lambda n: _assemble(None, grounding, [], passages[:n], [], boundary),
                int(self._budget * _DOCUMENTS_SHARE),
            )
            excerpts = await self._most(excerpts, lambda n: assemble(0, n), self._budget)
            await self._require(assemble(0, excerpts))
            kept = await self._most(len(turns), lambda n: assemble(n, excerpts), self._budget)
        else:
            kept, excerpts = len(turns), len(passages)
            await self._require(assemble(kept, excerpts))
        left_out = turns[: len(turns) - kept]
        dropped = sum(len(turn) for turn in left_out) - len(_operators(left_out))
        return Prompt(assemble(kept, excerpts), passages[:excerpts], dropped)

    async def _require(self, messages: list[Message]) -> None:
        if _upper_bound(messages) > self._budget:
            tokens = await self._count_tokens(messages)
            if tokens > self._budget:
                raise PromptTooLongError(tokens, self._budget)

    async def _most(self, available: int, assemble: Callable[[int], list[Message]], room: int) -> int:
        """The largest ``n`` of 0 … ``available`` whose messages fit into ``room``; 0 is taken to fit."""
        if _upper_bound(assemble(available)) <= room:
            return available
        low, high = 0, available
        while low < high:
            middle = (low + high + 1) // 2
            if await self._count_tokens(assemble(middle)) <= room:
                low = middle
            else:
                high = middle - 1
        return low


def _assemble(
    instructions: str | None,
    grounding: str,
    earlier: list[Message],
    passages: list[Passage],
    new: list[Message],
    boundary: str,
) -> list[Message]:
    system = "\n\n".join(part for part in (instructions, grounding if passages else None) if part)
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    messages += earlier
    if passages:
        messages.append({"role": "user", "content": documents_turn(passages, boundary)})
    return messages + new


def _turns(history: list[Message]) -> list[list[Message]]:
    """History cut before every user message that follows something else, so that an answer goes with its question."""
    turns: list[list[Message]] = []
    for message in history:
        if not turns or (message["role"] == "user" and turns[-1][-1]["role"] != "user"):
            turns.append([])
        turns[-1].append(message)
    return turns


def _operators(turns: list[list[Message]]) -> list[Message]:
    """What nobody but the operator may take away, among ``turns``: a long talk must not make a model forget its rules.

    (``developer`` is ``system`` by now; see `cloister_gateway.runs.history`.)
    """
    return [message for turn in turns for message in turn if message["role"] == "system"]


def _upper_bound(messages: Sequence[Message]) -> int:
    """More tokens than the messages can have: byte-level and byte-fallback tokenizers make at most one a byte.

    It spares most prompts the round trip of counting.
    """
    return sum(len(message["content"].encode()) + _MESSAGE_OVERHEAD_TOKENS for message in messages)
