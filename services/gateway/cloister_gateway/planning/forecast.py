"""The tokens of a conversation, turn by turn, under each policy of history.

Every prompt carries all that was said before it: what is new grows by the turn, what is sent by its square. With ``u``
tokens that a turn leaves in the history, ``T`` turns send ``u·T·(T−1)/2`` tokens of it. The policies:

``all``
    Everything, while it fits into the model's context; then the oldest turns go, several at a time
    (`cloister_gateway.prompt`).
``budget``
    The same with `history_tokens` of history instead of all that fits.
``summary``
    Where history grows over `history_tokens`, the model sums up all but its newest quarter, in a call of its own
    (`cloister_gateway.runs.summaries`).

A pod's cache has what a prompt and the one before begin with in common. Excerpts stand behind the history and are
others in each turn: with them, the question and answer before are computed once more.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from cloister_gateway.planning.question import UsageQuestion
from cloister_gateway.prompt import dropped_in_steps

__all__ = ["POLICIES", "Policy", "Tokens", "TurnTokens", "conversation_tokens", "turns_of"]

Policy = Literal["all", "budget", "summary"]
POLICIES: tuple[Policy, ...] = ("all", "budget", "summary")


class TurnTokens(NamedTuple):
    """One turn.

    Attributes:
        turn: From 1.
        system, history, retrieved, new: The parts of its prompt, with what the template puts around each.
        cached: Of the prompt, what is in the pod's cache.
        output: Its answer.
        dropped: Turns of the history that are not in it.
        summed_up: Tokens of the prompt of a summary made before it; 0 where there is none.
        summary: Tokens of that summary.
    """

    turn: int
    system: int
    history: int
    retrieved: int
    new: int
    cached: int
    output: int
    dropped: int = 0
    summed_up: int = 0
    summary: int = 0

    @property
    def prompt(self) -> int:
        """All that is sent."""
        return self.system + self.history + self.retrieved + self.new


class Tokens(NamedTuple):
    """Sums.

    Attributes:
        prompt: Sent, prompts of summaries included.
        cached: Of them, in the cache.
        output: Generated, summaries included.
    """

    prompt: float
    cached: float
    output: float

    @property
    def computed(self) -> float:
        """Tokens of prompts that pods compute."""
        return self.prompt - self.cached

    def times(self, factor: float) -> "Tokens":
        """So many of these."""
        return Tokens(*(part * factor for part in self))


def conversation_tokens(question: UsageQuestion, policy: Policy) -> Tokens:
    """The sums of one conversation."""
    turns = list(turns_of(question, policy))
    return Tokens(
        sum(turn.prompt + turn.summed_up for turn in turns),
        sum(turn.cached for turn in turns),
        sum(turn.output + turn.summary for turn in turns),
    )


def turns_of(question: UsageQuestion, policy: Policy) -> Iterator[TurnTokens]:
    """Each turn of a conversation in order."""
    said, around = question.conversation, question.conversation.template_tokens
    system = said.system_tokens + around if said.system_tokens else 0
    retrieved = said.retrieved_tokens + around if said.retrieved_tokens else 0
    # (The template also opens the answer.)
    new = said.message_tokens + 2 * around
    left = said.message_tokens + said.answer_tokens + 2 * around
    room = question.pod.context_tokens - said.answer_tokens - system - retrieved - new
    most = max(0, room if policy == "all" else min(room, question.history_tokens))

    dropped = 0  # turns that are gone, or summed up
    summary = 0  # tokens of what stands in their place
    history = 0
    common = system
    for turn in range(1, said.turns + 1):
        kept = turn - 1 - dropped
        summed_up = made = 0
        if summary + kept * left > most:
            if policy == "summary":
                fresh = int(most / 4 // left)
                summed_up = system + summary + (kept - fresh) * left + new
                made = question.summary_tokens
                kept, summary = fresh, min(made + around, most)
            else:
                fitting = int(most // left)
                dropped = dropped_in_steps(turn - 1 - fitting, fitting)
                kept = max(0, turn - 1 - dropped)
            dropped = turn - 1 - kept
            common = system
        elif turn > 1:
            # What was there before, and with no excerpts behind it the turn that followed.
            common = system + (history if retrieved else summary + kept * left)
        history = summary + kept * left
        cached = int(question.prefix_cache_share * min(common, system + history))
        yield TurnTokens(turn, system, history, retrieved, new, cached, said.answer_tokens, dropped, summed_up, made)
