"""Fits instructions, history, excerpts and the new message into the model's context, by a stated policy.

Policy ``auto`` (the default): the instructions, the operator's turns in the history (system, developer) and the new
message always stay; excerpts take at most half of the room, and no more than those leave, and lose the worst first;
history then loses its oldest turns, whole turns at a time, until the rest fits. A turn that made the calls whose
results the new messages bring stays with them. What was dropped is counted and shown in the response. Policy
``disabled``: nothing is dropped, and what does not fit is an error, as in OpenAI's API.

Most prompts are known to fit, by their bytes or by what is known of the one before (`cloister_gateway.prompt.history`),
and the model's tokenizer is not asked. Where it is, what it says of one prompt tells about how many turns fit, so that
three or four questions find it among a thousand, and one or two with the turn after.
"""

import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_gateway.grounding.excerpts import CITING, GROUNDING, Passage, documents_turn
from cloister_gateway.prompt.history import Counted, History, upper_bound
from cloister_gateway.wire.items import Message, joined

__all__ = ["Prompt", "PromptBuilder", "PromptTooLongError", "new_boundary"]

CountTokens = Callable[[Sequence[Message]], Awaitable[int]]

_DOCUMENTS_SHARE = 0.5
_TOKENS_PER_BOUND = 0.3
"""Where nothing is known yet: a token of prose in a European language is three to four bytes."""
_GUESSES = 4
"""After so many the search halves what is left, for texts of which some have many more tokens a byte than others."""


class PromptTooLongError(Exception):
    """What must stay does not fit."""

    def __init__(self, tokens: int, budget: int) -> None:
        super().__init__(f"{tokens} tokens, room for {budget}")
        self.tokens = tokens
        self.budget = budget


class Prompt(NamedTuple):
    """What goes to the model, and what had to stay out.

    Attributes:
        messages: The prompt.
        passages: The excerpts in it.
        dropped_messages: How many messages of the history are not.
        note_tokens: To be told how many tokens the model found in it: the next turn's need not be counted then.
    """

    messages: list[Message]
    passages: list[Passage]
    dropped_messages: int
    note_tokens: Callable[[int], None]


class PromptBuilder:
    """Builds prompts for one model.

    Args:
        count_tokens: Counts the tokens of rendered messages, with the model's own tokenizer.
        budget: How many tokens the prompt may have (the model's context less what is kept for the answer).
        model: Its name, under which histories know of prompts.
    """

    def __init__(self, count_tokens: CountTokens, *, budget: int, model: str = "") -> None:
        self._count_tokens = count_tokens
        self._budget = budget
        self._model = model

    async def build(
        self,
        *,
        instructions: str | None,
        history: History | Sequence[Message],
        passages: list[Passage],
        new: list[Message],
        drop: bool,
        cite: bool = True,
        boundary: str | None = None,
        nothing: str | None = None,
    ) -> Prompt:
        """Puts the prompt together.

        Args:
            instructions: The system turn, if there is one.
            history: Earlier messages, oldest first.
            passages: Excerpts, best first.
            new: The messages of this turn.
            drop: Whether history and excerpts may be left out (policy ``auto``).
            cite: Whether the model is asked to mark what it takes from which excerpt.
            boundary: What the excerpts stand between, if it was chosen before.
            nothing: What the model is told where a search has left no excerpts.

        Raises:
            PromptTooLongError: It does not fit, even with all dropped that may be.
        """
        if not isinstance(history, History):
            history = History.of(history)
        returned = [message["tool_call_id"] for message in new if message["role"] == "tool"]
        if returned:
            history, going_on = history.parted(returned)
            new = [*going_on, *new]
        grounding = f"{GROUNDING} {CITING}" if cite else GROUNDING
        without = None if passages else nothing
        draft = _Draft(instructions, grounding, without, history, passages, new, boundary or new_boundary())
        if drop:
            excerpts = await self._most(
                _Search(len(passages), lambda n: draft.others(n, alone=True)), int(self._budget * _DOCUMENTS_SHARE)
            )
            excerpts = await self._most(_Search(excerpts, lambda n: draft.messages(0, n)), self._budget)
            await self._require(_Turns(draft, excerpts, 0, self._model))
            kept = await self._most(_Turns(draft, excerpts, history.turns, self._model), self._budget)
        else:
            kept, excerpts = history.turns, len(passages)
            await self._require(_Turns(draft, excerpts, kept, self._model))
        turns = _Turns(draft, excerpts, kept, self._model)
        first = history.first_of(kept)
        dropped = first - len(history.operators_before(first)) - bisect_left(history.said.thoughts, first)
        return Prompt(
            turns.messages(kept), passages[:excerpts], dropped, lambda tokens: turns.note(kept, tokens, fits=True)
        )

    async def _require(self, search: "_Turns") -> None:
        if search.at_most(search.available) > self._budget:
            tokens = await self._count_tokens(search.messages(search.available))
            search.note(search.available, tokens, fits=tokens <= self._budget)
            if tokens > self._budget:
                raise PromptTooLongError(tokens, self._budget)

    async def _most(self, search: "_Search", room: int) -> int:
        """The largest ``n`` of 0 … ``available`` whose messages fit into ``room``; 0 is taken to fit."""
        if search.at_most(search.available) <= room:
            return search.available
        choices = range(search.available + 1)
        low = max(0, bisect_right(choices, room, key=search.at_most) - 1)
        high = max(low, bisect_right(choices, room, key=search.at_least) - 1)
        asked = 0
        while low < high:
            guess = (low + high + 1) // 2
            if asked < _GUESSES:
                guess = min(high, max(low + 1, bisect_right(choices, room, key=search.estimate) - 1))
            tokens = await self._count_tokens(search.messages(guess))
            asked += 1
            search.note(guess, tokens, fits=tokens <= room)
            if tokens <= room:
                low = guess
            else:
                high = guess - 1
        return low


def new_boundary() -> str:
    """Fresh and random for each prompt; see `documents_turn`."""
    return secrets.token_hex(8)


class _Draft(NamedTuple):
    """All that a prompt may be put together from."""

    instructions: str | None
    grounding: str
    nothing: str | None
    history: History
    passages: list[Passage]
    new: list[Message]
    boundary: str

    def others(self, excerpts: int, *, alone: bool = False) -> list[Message]:
        """The system turn and the excerpts; ``alone`` without the instructions."""
        parts = (None if alone else self.instructions, self.grounding if excerpts else self.nothing)
        system = "\n\n".join(part for part in parts if part)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        if excerpts:
            messages.append({"role": "user", "content": documents_turn(self.passages[:excerpts], self.boundary)})
        return messages

    def messages(self, turns: int, excerpts: int) -> list[Message]:
        """The prompt with the last ``turns`` of the history and the first ``excerpts``."""
        first = self.history.first_of(turns)
        earlier = [*self.history.operators_before(first), *self.history.from_place(first)]
        others = self.others(excerpts)
        system = 1 if others and others[0]["role"] == "system" else 0
        messages = [*others[:system], *earlier, *others[system:], *self.new]
        said = self.history.said
        apart = said.calls or said.thoughts or not all("content" in message for message in self.new)
        return joined(messages) if apart else messages


class _Search:
    """How many of something fit: of ``available`` the first ``n``, in a prompt of ``messages(n)``."""

    def __init__(self, available: int, messages: Callable[[int], list[Message]]) -> None:
        self.available = available
        self.messages = messages
        self._seen = (1.0, _TOKENS_PER_BOUND)

    def bound(self, n: int) -> int:
        """How many tokens it has at most, by its bytes."""
        return upper_bound(self.messages(n))

    def at_most(self, n: int) -> int:
        """How many tokens it has at most, by all that is known."""
        return self.bound(n)

    def at_least(self, n: int) -> int:
        """How many tokens it has at least."""
        return 0

    def estimate(self, n: int) -> int:
        """About how many tokens it has, by what was last counted."""
        bound, tokens = self._seen
        return int(tokens + (self.bound(n) - bound) * tokens / bound)

    def note(self, n: int, tokens: int, *, fits: bool) -> None:
        """Takes how many tokens it has."""
        self._seen = (self.bound(n), tokens)


class _Turns(_Search):
    """How many turns of the history fit, of which something may be known from prompts before."""

    def __init__(self, draft: _Draft, excerpts: int, available: int, model: str) -> None:
        super().__init__(available, lambda n: draft.messages(n, excerpts))
        self._history = draft.history
        self._others = draft.others(excerpts)
        self._new = draft.new
        self._beside = upper_bound([*self._others, *draft.new])
        self._known = draft.history.known(model)
        counted = self._known.fitting
        if counted is not None:
            size = draft.history.said.bounds[counted.end] - draft.history.said.bounds[counted.first]
            self._seen = (size + upper_bound([*counted.others, *counted.new]), counted.tokens)

    def bound(self, n: int) -> int:
        first = self._history.first_of(n)
        return self._beside + upper_bound(self._history.operators_before(first)) + self._history.bound(first)

    def at_most(self, n: int) -> int:
        first = self._history.first_of(n)
        known = self._history.at_most(self._known.fitting, first, self._others, self._new)
        return self.bound(n) if known is None else min(known, self.bound(n))

    def at_least(self, n: int) -> int:
        return self._history.at_least(self._known.too_long, self._history.first_of(n), self._others, self._new)

    def note(self, n: int, tokens: int, *, fits: bool) -> None:
        super().note(n, tokens, fits=fits)
        first, end = self._history.first_of(n), self._history.end
        counted = Counted(first, end, tuple(self._others), tuple(self._new), tokens)
        if fits:
            self._known.fitting = counted
        else:
            self._known.too_long = counted
