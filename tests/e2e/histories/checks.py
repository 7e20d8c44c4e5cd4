"""Judges a history by what is stored at its end. Each check names what it found wrong in words."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.e2e.histories.records import ENDS, Event, History, Stream, Turn
from tests.support.llm_process import answer_to

__all__ = ["Stored", "violations"]


@dataclass(frozen=True)
class Stored:
    """What is there at the end, when all is whole again and nothing runs any more.

    Attributes:
        items: The conversation's.
        responses: Every response that was acknowledged.
        streams: All events of each of them.
    """

    items: list[Event]
    responses: dict[str, Event]
    streams: dict[str, list[Event]]


def violations(history: History, stored: Stored) -> list[str]:
    """All that is wrong with it."""
    found = list(history.wrong)
    for check in (_acknowledged, _places, _answers, _reads, _streams, _snapshots, _prompts):
        found += [f"{check.__name__[1:]}: {wrong}" for wrong in check(history, stored)]
    return [f"{history.name}: {wrong}" for wrong in found]


def _acknowledged(history: History, stored: Stored) -> Iterator[str]:
    """What was acknowledged is stored, under one response for each key; what was refused is not."""
    texts = Counter(text_of(item) for item in stored.items if item.get("role") == "user")
    for turn in history.turns:
        ids = turn.response_ids
        if turn.key is not None and len(ids) > 1:
            yield f"{turn.text}: one key and several responses: {sorted(ids)}"
        for response_id in ids:
            if response_id not in stored.responses:
                yield f"{turn.text}: {response_id} was acknowledged and is not there"
        if not turn.conversation:
            continue
        count = texts[turn.text]
        if ids and count == 0:
            yield f"{turn.text}: acknowledged, and not in the conversation"
        if turn.refused and count:
            yield f"{turn.text}: refused, and in the conversation: {[each.said for each in turn.attempts]}"


def _places(history: History, stored: Stored) -> Iterator[str]:
    """Each input has one place; nothing is there that nobody asked."""
    asked = {turn.text for turn in history.turns if turn.conversation}
    for text, count in Counter(text_of(item) for item in stored.items if item.get("role") == "user").items():
        if text not in asked:
            yield f"{text}: nobody asked this here"
        if count > 1:
            yield f"{text}: {count} times in the conversation"
    ids = Counter(item["id"] for item in stored.items)
    yield from (f"item {each} is there {count} times" for each, count in ids.items() if count > 1)


def _answers(history: History, stored: Stored) -> Iterator[str]:
    """Each question is followed by its answer, or is marked as one without."""
    for place, item in enumerate(stored.items):
        if item.get("role") == "user":
            following = stored.items[place + 1] if place + 1 < len(stored.items) else {}
            answered = following.get("role") == "assistant"
            if answered == (item["status"] == "incomplete"):
                yield f"{text_of(item)}: {item['status']}, and followed by {following}"
            first, said = f"re:{text_of(item)} ", text_of(following)
            # (An answer that was cancelled may end within its first word.)
            if answered and not (said.startswith(first) or first.startswith(said)):
                yield f"{text_of(item)}: followed by the answer to something else: {said}"
        elif place == 0 or stored.items[place - 1].get("role") != "user":
            yield f"{item} answers nothing"
    by_text = {text_of(item): place for place, item in enumerate(stored.items) if item.get("role") == "user"}
    for turn in history.turns:
        for response_id in turn.response_ids & stored.responses.keys():
            response = stored.responses[response_id]
            if not turn.conversation or turn.text not in by_text:
                continue
            place = by_text[turn.text]
            kept = [item for item in stored.items[place + 1 : place + 2] if item.get("role") == "assistant"]
            output = [item for item in response["output"] if text_of(item)]
            if kept != output:
                yield f"{turn.text}: {response_id} says {output}, the conversation {kept}"


def _reads(history: History, stored: Stored) -> Iterator[str]:
    """Every read is the beginning of one order; it has what was acknowledged or read before it began."""
    final = [_without_status(item) for item in stored.items]
    places = {text_of(item): place for place, item in enumerate(stored.items) if item.get("role") == "user"}
    ends: list[tuple[float, int, str]] = []
    for read in sorted(history.items, key=lambda each: each.begun):
        items = [_without_status(item) for item in read.items]
        if read.limit is None:
            if items != final[: len(items)]:
                yield f"{read.how}: no beginning of what is stored: {_difference(items, final)}"
                continue
            end = len(items)
        elif not items:
            end = 0
        else:
            try:
                end = final.index(items[-1]) + 1
            except ValueError:
                yield f"{read.how}: the last item is not stored: {items[-1]}"
                continue
            if items != final[max(0, end - read.limit) : end]:
                yield f"{read.how}, last {read.limit}: {items} are not together in what is stored"
        for ended, seen, how in ends:
            if ended < read.begun and seen > end:
                yield f"{read.how} has {end} items; {how} had {seen} before"
                break
        for turn in history.turns:
            if turn.acknowledged and turn.acknowledged < read.begun and end <= places.get(turn.text, -1):
                yield f"{read.how} has {end} items, without {turn.text}, acknowledged before"
        ends.append((read.ended, end, read.how))


def _streams(history: History, stored: Stored) -> Iterator[str]:
    """Gapless, numbered from 0, ended; and what any reader saw is what is stored."""
    for response_id, final in stored.streams.items():
        numbers = [event["sequence_number"] for event in final]
        if numbers != list(range(len(final))):
            yield f"{response_id}: numbered {numbers}"
        if not final or final[-1]["type"] not in ENDS:
            yield f"{response_id}: stored without an end: {[event['type'] for event in final]}"
            continue
        record = stored.responses[response_id]
        if final[-1]["response"] != record:
            yield f"{response_id}: its last event is {final[-1]['response']}, its record {record}"
        said = "".join(event["delta"] for event in final if event["type"] == "response.output_text.delta")
        text = "".join(text_of(item) for item in record["output"])
        if said != text:
            yield f"{response_id}: streamed {said!r}, stored {text!r}"
        for stream in history.streams.get(response_id, []):
            yield from (f"{response_id}: {wrong}" for wrong in _stream(stream, final))


def _stream(stream: Stream, final: list[Event]) -> Iterator[str]:
    expected = final[stream.after + 1 : stream.after + 1 + len(stream.events)]
    if stream.events != expected:
        yield f"{stream.how} saw {_difference(stream.events, expected)}"
    elif stream.clean and stream.after + 1 + len(stream.events) < len(final):
        yield f"{stream.how} ended in order after {len(stream.events)} events, before the end"


def _snapshots(history: History, stored: Stored) -> Iterator[str]:
    """A response that is read while it is made is the beginning of what it becomes; ended, it changes no more."""
    for response_id, snapshots in history.snapshots.items():
        if (final := stored.responses.get(response_id)) is None:
            continue
        text = "".join(text_of(item) for item in final["output"])
        for snapshot in snapshots:
            seen = snapshot.response
            if seen["status"] not in {"queued", "in_progress"}:
                if seen != final:
                    yield f"{response_id} {snapshot.how}: ended as {seen}, and is {final}"
            elif not text.startswith("".join(text_of(item) for item in seen["output"])):
                yield f"{response_id} {snapshot.how}: was {seen}, became {final}"


def _prompts(history: History, stored: Stored) -> Iterator[str]:
    """The model was given what stands before the question, in that order, and all of it."""
    asked = {response_id: turn for turn in history.turns for response_id in turn.response_ids}
    for response_id, turn in asked.items():
        response = stored.responses.get(response_id)
        if response is None or response["status"] != "completed":
            continue
        before = _before(turn, stored) if turn.conversation else _chain(turn.previous, asked, stored)
        expected = "".join(answer_to([*before, ("user", turn.text)]))
        text = "".join(text_of(item) for item in response["output"])
        if text != expected:
            yield f"{turn.text}: answered {text!r}; by what is stored it is {expected!r}"


def _before(turn: Turn, stored: Stored) -> list[tuple[str, str]]:
    messages = []
    for item in stored.items:
        if text_of(item) == turn.text:
            break
        if item.get("role") == "assistant" or item["status"] != "incomplete":
            messages.append((item["role"], text_of(item)))
    return messages


def _chain(previous: str, asked: dict[str, Turn], stored: Stored) -> list[tuple[str, str]]:
    if previous not in stored.responses:  # there is none, or it is lost, which is told elsewhere
        return []
    turn, response = asked[previous], stored.responses[previous]
    before = _chain(turn.previous, asked, stored)
    text = "".join(text_of(item) for item in response["output"])
    if response["status"] != "completed" and not text:
        return before
    return [*before, ("user", turn.text), ("assistant", text)]


def text_of(item: Event) -> str:
    """The text of a message."""
    return "".join(part.get("text", "") for part in item.get("content") or [])


def _without_status(item: Event) -> Event:
    """A question is marked afterwards if it got no answer."""
    return {**item, "status": ""} if item.get("role") == "user" else item


def _difference(seen: list[Any], expected: list[Any]) -> str:
    for place, (one, other) in enumerate(zip(seen, expected, strict=False)):
        if one != other:
            return f"at {place} {one}, where there is {other}"
    return f"{len(seen)}, where there are {len(expected)}; more: {seen[len(expected) :][:2]}"
