"""Fits instructions, history, excerpts and the new message into the model's context, by a stated policy.

Policy ``auto`` (the default): the instructions, the operator's turns in the history (system, developer) and the new
message always stay; excerpts take at most half of the room, and no more than those leave, and lose the worst first;
history then loses its oldest turns until the rest fits, by its tokens and by its images, whole turns and several at a
time (`dropped_in_steps`). A turn that made the calls whose results the new messages bring stays with them. What was
dropped is counted and shown in the response. Policy ``disabled``: nothing is dropped, and what does not fit is an
error, as in OpenAI's API.

Most prompts are known to fit, by their bytes or by what is known of the one before (`cloister_gateway.prompt.history`),
and the model's tokenizer is not asked. Where it is, what it says of one prompt tells about how many turns fit, so that
three or four questions find it among a thousand. How many fit exactly is asked only where it matters: not while what
was kept with the turn before still fits, and no more than that is kept.
"""

import secrets
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from cloister_gateway.grounding.excerpts import CITING, GROUNDING, Passage, Shown, documents_turn, illustrated_turn
from cloister_gateway.prompt.history import Counted, History, ImageRoom, upper_bound
from cloister_gateway.prompt.parts import Layout, Parts, weight
from cloister_gateway.wire.items import SUMMARY, Message, images_of, joined

__all__ = [
    "Prompt",
    "PromptBuilder",
    "PromptTooLongError",
    "TooManyImagesError",
    "dropped_in_steps",
    "new_boundary",
]

CountTokens = Callable[[Sequence[Message]], Awaitable[int]]

_SUMMED_UP = "Summary of what was said in this conversation before:"
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


class TooManyImagesError(Exception):
    """What must stay has more images than there is room for."""


class Prompt(NamedTuple):
    """What goes to the model, and what had to stay out.

    Attributes:
        messages: The prompt.
        passages: The excerpts in it.
        dropped_messages: How many messages of the history are not.
        note_tokens: To be told how many tokens the model found in it: the next turn's need not be counted then.
        at_most: It has no more tokens, by all that is known without a question.
        layout: What it is made of.
        summed_up: How many turns the summary in it stands for.
    """

    messages: list[Message]
    passages: list[Passage]
    dropped_messages: int
    note_tokens: Callable[[int], None]
    at_most: int = 0
    layout: Layout = Layout()
    summed_up: int = 0


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
        images: ImageRoom = ImageRoom(0, 0),
        pictures: Sequence[Shown] = (),
        history_tokens: int | None = None,
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
            images: How many may be in it.
            pictures: Those of the excerpts, of the best excerpt first, for which there is room beside all other images.
            history_tokens: How many tokens its history may have, where ``drop`` is; None is as many as fit.

        Raises:
            TooManyImagesError: It has more, even with all dropped that may be.
            PromptTooLongError: It does not fit, even with all dropped that may be.
        """
        if not isinstance(history, History):
            history = History.of(history)
        history, new = _with_new_summaries(history, new)
        returned = [message["tool_call_id"] for message in new if message["role"] == "tool"]
        if returned:
            history, going_on = history.parted(returned)
            new = [*going_on, *new]
        available = history.turns
        if history.said.seen or any(isinstance(message.get("content"), list) for message in new):
            available = _with_images(history, images.less(new), drop=drop)
        grounding = f"{GROUNDING} {CITING}" if cite else GROUNDING
        without = None if passages else nothing
        draft = _Draft(instructions, grounding, without, history, passages, new, boundary or new_boundary(), ())
        if drop:
            excerpts = await self._most(
                _Search(len(passages), lambda n: draft.others(n, alone=True)), int(self._budget * _DOCUMENTS_SHARE)
            )
            excerpts = await self._most(_Search(excerpts, lambda n: draft.messages(0, n)), self._budget)
            draft = await self._illustrated(draft, excerpts, pictures)
            await self._require(_Turns(draft, excerpts, 0, self._model))
            fitting = await self._most(_Turns(draft, excerpts, available, self._model), self._budget)
            if history_tokens is not None:
                fitting = min(fitting, await self.fitting(history, history_tokens))
            kept = max(0, history.turns - dropped_in_steps(history.turns - fitting, fitting))
        else:
            kept, excerpts = available, len(passages)
            draft = draft._replace(pictures=pictures)
            await self._require(_Turns(draft, excerpts, kept, self._model))
        turns = _Turns(draft, excerpts, kept, self._model)
        dropped = history.count_before(history.first_of(kept)) - history.count_before(history.floor)
        return Prompt(
            turns.messages(kept),
            passages[:excerpts],
            dropped,
            lambda tokens: turns.note(kept, tokens, fits=True),
            min(self._budget, turns.at_most(kept)),
            draft.layout(kept, excerpts),
            0 if history.summary is None else history.summary.turns,
        )

    async def _illustrated(self, draft: "_Draft", excerpts: int, pictures: Sequence[Shown]) -> "_Draft":
        """With as many of ``pictures`` as the share of the excerpts has room for beside their texts, and the new
        messages leave: a picture makes place for no passage's words."""
        some = [picture for picture in pictures if picture.place < excerpts]
        if not some:
            return draft

        def alone(n: int) -> list[Message]:
            return draft._replace(pictures=some[:n]).others(excerpts, alone=True)

        def together(n: int) -> list[Message]:
            return draft._replace(pictures=some[:n]).messages(0, excerpts)

        fitting = await self._most(_Search(len(some), alone), int(self._budget * _DOCUMENTS_SHARE))
        fitting = await self._most(_Search(fitting, together), self._budget)
        return draft._replace(pictures=some[:fitting])

    async def fitting(self, history: History, room: int) -> int:
        """How many of the last turns of ``history`` have no more than ``room`` tokens, with what stands for those
        before them and what the template says. The tokenizer is asked where what is known does not tell."""
        alone = _Draft(None, "", None, history, [], [], "", ())
        return await self._most(_Turns(alone, 0, history.turns, f"{self._model} alone"), room)

    async def _require(self, search: "_Turns") -> None:
        if search.at_most(search.available) > self._budget:
            tokens = await self._count_tokens(search.messages(search.available))
            search.note(search.available, tokens, fits=tokens <= self._budget)
            if tokens > self._budget:
                raise PromptTooLongError(tokens, self._budget)

    async def _most(self, search: "_Search", room: int) -> int:
        """The largest ``n`` of 0 … ``available`` whose messages fit into ``room``; 0 is taken to fit.

        A smaller one that fits, too, where it comes to the same: the tokenizer is not asked for the difference.
        """
        if search.at_most(search.available) <= room:
            return search.available
        choices = range(search.available + 1)
        low = max(0, bisect_right(choices, room, key=search.at_most) - 1)
        high = max(low, bisect_right(choices, room, key=search.at_least) - 1)
        asked = 0
        while low < high and not search.comes_to_the_same(low, high):
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


def _with_images(history: History, room: ImageRoom, *, drop: bool) -> int:
    """How many turns of the history may stay for their images. Raises `TooManyImagesError`."""
    turns = history.turns_within(room) if room.holds else -1
    if turns < 0 or (turns < history.turns and not drop):
        raise TooManyImagesError
    return turns


def new_boundary() -> str:
    """Fresh and random for each prompt; see `documents_turn`."""
    return secrets.token_hex(8)


def dropped_in_steps(dropped: int, fitting: int) -> int:
    """How many turns are dropped where at least ``dropped`` must be and the ``fitting`` others could stay.

    With one more in each turn no two prompts would have the same beginning, and the pod would compute all of each
    anew. So they go by up to a third of what fits, in steps that every gateway finds: for as many turns as a step has
    the prompt only grows, and its beginning is in the pod's cache. A power of two, since what fits differs a little
    from turn to turn.
    """
    step = 1 << max(1, (fitting + 1) // 3).bit_length() - 1
    return -(-dropped // step) * step


class _Draft(NamedTuple):
    """All that a prompt may be put together from."""

    instructions: str | None
    grounding: str
    nothing: str | None
    history: History
    passages: list[Passage]
    new: list[Message]
    boundary: str
    pictures: Sequence[Shown]

    def others(self, excerpts: int, *, alone: bool = False) -> list[Message]:
        """The system turn and the excerpts; ``alone`` without the instructions."""
        parts = (None if alone else self.instructions, self.grounding if excerpts else self.nothing)
        system = "\n\n".join(part for part in parts if part)
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        if excerpts:
            text = documents_turn(self.passages[:excerpts], self.boundary)
            content = illustrated_turn(text, self.pictures) if self.pictures else text
            messages.append({"role": "user", "content": content})
        return messages

    def messages(self, turns: int, excerpts: int) -> list[Message]:
        """The prompt with the last ``turns`` of the history and the first ``excerpts``."""
        messages = [message for part in self._parts(turns, excerpts) for message in part]
        return joined(messages) if self._apart else messages

    def layout(self, turns: int, excerpts: int) -> Layout:
        """How that prompt is laid out. (The calls that new messages answer are sent, and counted, with these.)"""
        system, earlier, retrieved, new = self._parts(turns, excerpts)
        history, first = self.history, self.history.first_of(turns)
        images = sum(len(images_of(message)) for message in history.seen_from(first))
        said = weight(history.bound(first), history.end - first, images)
        said += _weight(earlier[: len(earlier) - (history.end - first)])
        weights = Parts(_weight(system), said, _weight(retrieved), 0, _weight(new))
        messages = [*system, *earlier, *retrieved]
        ends = (len(system), len(system) + len(earlier), len(messages))
        if self._apart:
            ends = (ends[0], *(len(joined(messages[:end])) for end in ends[1:]))  # type: ignore[assignment]
        return Layout(weights, ends)

    @property
    def _apart(self) -> bool:
        """Whether messages are to be joined before a pod gets them."""
        said = self.history.said
        return bool(said.calls or said.thoughts) or not all("content" in message for message in self.new)

    def _parts(self, turns: int, excerpts: int) -> tuple[list[Message], list[Message], list[Message], list[Message]]:
        """The system turn, history, excerpts and what is new."""
        first = self.history.first_of(turns)
        earlier = [*self.history.operators_before(first), *self.summary, *self.history.from_place(first)]
        others = self.others(excerpts)
        system = 1 if others and others[0]["role"] == "system" else 0
        return others[:system], earlier, others[system:], self.new

    @property
    def summary(self) -> list[Message]:
        """The message that says what was said before the rest of the history; none where nothing is summed up."""
        summary = self.history.summary
        return [] if summary is None else [{"role": "user", "content": f"{_SUMMED_UP}\n\n{summary.text}"}]


def _weight(messages: Sequence[Message]) -> int:
    return weight(upper_bound(messages), len(messages), sum(len(images_of(message)) for message in messages))


def _with_new_summaries(history: History, new: list[Message]) -> tuple[History, list[Message]]:
    """What stands before the messages of the turn, and these, where one of them is a summary: it stands for what the
    others before it say, too."""
    place = max((at for at, message in enumerate(new) if message["role"] == SUMMARY), default=-1)
    return (history, new) if place < 0 else (History.of([*history.messages, *new[: place + 1]]), new[place + 1 :])


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

    def comes_to_the_same(self, low: int, high: int) -> bool:
        """Whether it does not matter which of ``low`` to ``high`` is the most that fits."""
        return low == high

    def note(self, n: int, tokens: int, *, fits: bool) -> None:
        """Takes how many tokens it has."""
        self._seen = (self.bound(n), tokens)


class _Turns(_Search):
    """How many turns of the history fit, of which something may be known from prompts before."""

    def __init__(self, draft: _Draft, excerpts: int, available: int, model: str) -> None:
        super().__init__(available, lambda n: draft.messages(n, excerpts))
        self._history = draft.history
        self._others = [*draft.others(excerpts), *draft.summary]
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

    def comes_to_the_same(self, low: int, high: int) -> bool:
        # Mostly so: what was kept with the turn before still fits, and a step is much more than one turn. (All between
        # them are looked at, since steps differ by what fits. They are few where it is so, and soon told where not.)
        turns = self._history.turns
        dropped = dropped_in_steps(turns - low, low)
        return all(dropped_in_steps(turns - n, n) == dropped for n in range(low + 1, high + 1))

    def note(self, n: int, tokens: int, *, fits: bool) -> None:
        super().note(n, tokens, fits=fits)
        if any(map(images_of, self._others)):
            return  # megabytes, of which the next turn finds others
        first, end = self._history.first_of(n), self._history.end
        counted = Counted(first, end, tuple(self._others), tuple(self._new), tokens)
        if fits:
            self._known.fitting = counted
        else:
            self._known.too_long = counted
