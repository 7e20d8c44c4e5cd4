"""Builds a response out of what happens: every event passes through here once, is numbered, and changes the response.

The response is a function of its events alone. So a gateway that takes a run over replays the events that readers
have seen and goes on from there; it cannot contradict them.
"""

import time
from collections.abc import Callable
from typing import Any, Protocol

import orjson

from cloister_gateway.grounding import Coverage
from cloister_gateway.models.served import Served
from cloister_gateway.models.waking.records import Standing
from cloister_gateway.prompt import Prompt
from cloister_gateway.runs.calls import MadeCall
from cloister_gateway.runs.item_ids import output_id
from cloister_gateway.runs.records import Outcome, TokenCount
from cloister_gateway.wire.items import CALL_OF_MODEL, Item, Logprob, ResponseBody, SearchResult

__all__ = ["SealThought", "Transcript"]

_DELTA = b'{"type":"response.output_text.delta","sequence_number":%d%b%b,"logprobs":[]}'
_THOUGHT = b'{"type":"response.reasoning_text.delta","sequence_number":%d%b%b}'
_TEXT_DELTAS = frozenset({"response.output_text.delta", "response.reasoning_text.delta"})

SealThought = Callable[[str], str]
"""Seals reasoning for the caller to keep: ``encrypted_content``."""


def _told(logprob: Logprob) -> Logprob:
    """As OpenAI's events have it: without the bytes."""
    likeliest = [{"token": one["token"], "logprob": one["logprob"]} for one in logprob["top_logprobs"]]
    return {"token": logprob["token"], "logprob": logprob["logprob"], "top_logprobs": likeliest}


def _kept(told: Logprob) -> Logprob:
    """As OpenAI's messages have it: with the bytes, which are the token's in UTF-8 in vLLM's answers too."""
    likeliest = [{**one, "bytes": list(one["token"].encode())} for one in told["top_logprobs"]]
    return {**told, "bytes": list(told["token"].encode()), "top_logprobs": likeliest}


class OnEvent(Protocol):
    """Hears that there are events to write: at once, or when there is something else to write too."""

    def __call__(self, *, at_once: bool) -> None: ...


def _unheard(*, at_once: bool) -> None:
    """Nobody writes what is only looked at."""


class Transcript:
    """The state of one response while it runs.

    Args:
        response: The response as created (`response.created`'s snapshot), without output.

    Attributes:
        next_number: The number of the next event.
        resumed: Whether an earlier holder of the run has written events.
        on_event: Is told of each new event.
        began: When this gateway took the run up (monotonic seconds).
        tokens: What was used so far.
        served: How the answer came.
        results: What the file search found, if there was one.
        calls: The calls of functions that end the answer. They are held back until it is written.
        draft: The prompt, where this gateway has made it before it accepted the turn.
        seal_thought: Seals reasoning, where the caller asked for it.
    """

    def __init__(self, response: ResponseBody) -> None:
        self.response = response
        self.resumed = False
        self.on_event: OnEvent = _unheard
        self.began = time.monotonic()
        self.tokens = TokenCount()
        self.served = Served()
        self.results: list[SearchResult] | None = None
        self.calls: list[MadeCall] = []
        self.draft: Prompt | None = None
        self.seal_thought: SealThought | None = None
        self.next_number = 0
        self._pending: list[bytes] = []
        self._texts: dict[tuple[int, int], list[str]] = {}
        self._logprobs: dict[int, list[Logprob]] = {}
        self._heads: dict[int, bytes] = {}

    @property
    def output(self) -> list[Item]:
        """The output items so far."""
        items: list[Item] = self.response["output"]
        return items

    def new_item_id(self, prefix: str) -> str:
        """The id of the next output item."""
        return output_id(prefix, self.response["id"], len(self.output))

    def replay(self, events: list[bytes]) -> None:
        """Takes over what an earlier holder has written."""
        for raw in events:
            event = orjson.loads(raw)
            self._apply(event)
            self.next_number = event["sequence_number"] + 1
            self.resumed = True

    def emit(self, kind: str, *, at_once: bool = True, **fields: Any) -> None:
        """Numbers an event, applies it and queues it for the stream."""
        event = {"type": kind, "sequence_number": self.next_number, **fields}
        self._apply(event)
        self._queue(orjson.dumps(event), at_once=at_once)

    def lifecycle(self, kind: str, **changes: Any) -> None:
        """An event that carries the whole response (``response.created``, ``response.completed`` …)."""
        self.response.update(changes)
        self.emit(kind, response=self.response)

    def note(self, **changes: Any) -> None:
        """Changes the response without an event of its own: the last one tells."""
        self.response.update(changes)

    def complete(self, outcome: Outcome) -> Outcome:
        """``outcome`` with what the response says of its prompt and citations, and with what was used."""
        said = {name: self.response.get(name) for name in ("truncation_details", "citation_details")}
        return Outcome.model_validate({**outcome.model_dump(), **said, "usage": self.tokens.usage()})

    def open_message(self, item_id: str) -> int:
        """Starts the assistant message; returns its output index."""
        index = len(self.output)
        item: Item = {
            "id": item_id,
            "type": "message",
            "role": "assistant",
            "status": "in_progress",
            "content": [],
            "phase": None,
        }
        self.emit("response.output_item.added", output_index=index, item=item)
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self.emit("response.content_part.added", item_id=item_id, output_index=index, content_index=0, part=part)
        return index

    def delta(self, index: int, text: str, form: bytes = _DELTA) -> None:
        """Adds text to the message at ``index``.

        The hot path, one event a token or a few: written as bytes around the text, an event costs a sixth of what
        `emit` makes of it. Its fields and their order are the same.
        """
        texts = self._texts.setdefault((index, 0), [])
        head = self._heads.get(index)
        if head is None:
            head = self._heads[index] = b',"item_id":%b,"output_index":%d,"content_index":0,"delta":' % (
                orjson.dumps(self.output[index]["id"]),
                index,
            )
        event = form % (self.next_number, head, orjson.dumps(text))
        # The first text is what a reader waits for.
        self._queue(event, at_once=not texts)
        texts.append(text)

    def delta_with_logprobs(self, index: int, text: str, logprobs: list[Logprob]) -> None:
        """As `delta`, with the logprobs of its tokens: so much is told with each that nothing is gained by haste."""
        self.emit(
            "response.output_text.delta",
            at_once=(index, 0) not in self._texts,
            item_id=self.output[index]["id"],
            output_index=index,
            content_index=0,
            delta=text,
            logprobs=[_told(one) for one in logprobs],
        )

    def open_reasoning(self, item_id: str) -> int:
        """Starts an item of reasoning; returns its output index. The order of events is that of a message."""
        index = len(self.output)
        item = {"id": item_id, "type": "reasoning", "status": "in_progress", "summary": [], "content": []}
        self.emit("response.output_item.added", output_index=index, item=item)
        part = {"type": "reasoning_text", "text": ""}
        self.emit("response.content_part.added", item_id=item_id, output_index=index, content_index=0, part=part)
        return index

    def think(self, index: int, text: str) -> None:
        """Adds text to the reasoning at ``index``."""
        self.delta(index, text, _THOUGHT)

    def close_reasoning(self, index: int, *, status: str) -> None:
        """Ends the reasoning at ``index``, sealed too where the caller asked for that."""
        item_id, text = self.output[index]["id"], self.text(index)
        where = {"item_id": item_id, "output_index": index, "content_index": 0}
        self.emit("response.reasoning_text.done", **where, text=text)
        part = {"type": "reasoning_text", "text": text}
        self.emit("response.content_part.done", **where, part=part)
        item = {**self.output[index], "content": [part], "status": status}
        if self.seal_thought is not None:
            item["encrypted_content"] = self.seal_thought(text)
        self.emit("response.output_item.done", output_index=index, item=item)

    def annotate(self, index: int, annotation: dict[str, Any]) -> None:
        """Adds a citation to the message at ``index``."""
        number = len(self.output[index]["content"][0]["annotations"])
        self.emit(
            "response.output_text.annotation.added",
            at_once=False,
            item_id=self.output[index]["id"],
            output_index=index,
            content_index=0,
            annotation_index=number,
            annotation=annotation,
        )

    def close_message(self, index: int, *, status: str) -> None:
        """Ends the message at ``index``: text, part and item are done."""
        part = self.part(index)
        where = {"item_id": self.output[index]["id"], "output_index": index, "content_index": 0}
        self.emit("response.output_text.done", **where, text=part["text"], logprobs=self._logprobs.get(index, []))
        self.emit("response.content_part.done", **where, part=part)
        item = {**self.output[index], "content": [part], "status": status}
        self.emit("response.output_item.done", output_index=index, item=item)

    def open_search(self, item_id: str, queries: list[str]) -> int:
        """Starts the file search call; returns its output index."""
        index = len(self.output)
        item = {
            "id": item_id,
            "type": "file_search_call",
            "status": "in_progress",
            "queries": queries,
            "results": None,
            "coverage": None,
        }
        self.emit("response.output_item.added", output_index=index, item=item)
        self.emit("response.file_search_call.in_progress", output_index=index, item_id=item_id)
        self.emit("response.file_search_call.searching", output_index=index, item_id=item_id)
        return index

    def close_search(self, index: int, *, results: list[SearchResult] | None, coverage: Coverage) -> None:
        """Ends the file search call. ``results`` only if the caller asked to see them."""
        item = {**self.output[index], "status": "completed", "results": results, "coverage": coverage}
        self.emit("response.file_search_call.completed", output_index=index, item_id=item["id"])
        self.emit("response.output_item.done", output_index=index, item=item)

    def add_summary(self, item: Item) -> None:
        """Adds what stands for the beginning of the conversation, whole: both events are written together."""
        index = len(self.output)
        self.emit("response.output_item.added", output_index=index, item=item)
        self.emit("response.output_item.done", output_index=index, item=item)

    def show_calls(self) -> None:
        """Adds the calls that were held back, each whole: from its beginning to its end."""
        for call in self.calls:
            index = len(self.output)
            said = {"call_id": call.call_id, "name": call.name}
            item = {
                "id": self.new_item_id(CALL_OF_MODEL),
                "type": "function_call",
                "status": "in_progress",
                "arguments": "",
                **said,
            }
            where: dict[str, Any] = {"item_id": item["id"], "output_index": index}
            self.emit("response.output_item.added", output_index=index, item=item)
            self.emit("response.function_call_arguments.delta", **where, delta=call.arguments)
            self.emit("response.function_call_arguments.done", **where, name=call.name, arguments=call.arguments)
            item = {**item, "status": "completed", "arguments": call.arguments}
            self.emit("response.output_item.done", output_index=index, item=item)
        self.calls = []

    def close_output(self, *, completed: bool, failed: bool) -> None:
        """Ends every output item that is still open, at the end of the run."""
        for index, item in enumerate(self.output):
            if item.get("status") != "in_progress":
                continue
            if item["type"] == "message":
                self.close_message(index, status="completed" if completed else "incomplete")
            elif item["type"] == "reasoning":
                self.close_reasoning(index, status="completed" if completed else "incomplete")
            else:
                item = {**item, "status": "failed" if failed else "incomplete"}
                self.emit("response.output_item.done", output_index=index, item=item)

    def item_index(self, kind: str) -> int | None:
        """Where the output item of that type is, if there is one."""
        return next((i for i, item in enumerate(self.output) if item["type"] == kind), None)

    def text(self, index: int) -> str:
        """The message's text so far."""
        return "".join(self._texts.get((index, 0), ()))

    def part(self, index: int) -> dict[str, Any]:
        """The content of the message or reasoning as it is now."""
        part: dict[str, Any] = {**self.output[index]["content"][0], "text": self.text(index)}
        told = self._logprobs.get(index, [])
        return {**part, "logprobs": [_kept(one) for one in told]} if "logprobs" in part else part

    def announce(self, *, background: bool) -> None:
        """The events that begin every response, before anything can go wrong or be cancelled."""
        self.lifecycle("response.created")
        if background:
            self.lifecycle("response.queued")
        self.lifecycle("response.in_progress", status="in_progress")

    def wait(self, standing: Standing | None) -> None:
        """The event of a model that is waited for, since no pod of it is ready, and where the run stands; or that of
        going on. ``queue`` is ours."""
        if standing is None:
            self.lifecycle("response.in_progress", status="in_progress")
        else:
            self.response.update(status="queued")
            self.emit("response.queued", response=self.response, queue=standing.body())

    def take_pending(self) -> tuple[int, list[bytes]]:
        """What is to be written next: the number of the first event, and the events."""
        events, self._pending = self._pending, []
        return self.next_number - len(events), events

    def _queue(self, event: bytes, *, at_once: bool) -> None:
        self.next_number += 1
        self._pending.append(event)
        self.on_event(at_once=at_once)

    def _apply(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind in _TEXT_DELTAS:
            self._texts.setdefault((event["output_index"], event["content_index"]), []).append(event["delta"])
            if event.get("logprobs"):
                self._logprobs.setdefault(event["output_index"], []).extend(event["logprobs"])
        elif kind == "response.output_text.annotation.added":
            part = self.output[event["output_index"]]["content"][event["content_index"]]
            part["annotations"].append(event["annotation"])
        elif kind == "response.output_item.added":
            self.output.append(orjson.loads(orjson.dumps(event["item"])))
        elif kind == "response.content_part.added":
            part = dict(event["part"])
            if "annotations" in part:
                part["annotations"] = []
            self.output[event["output_index"]]["content"].append(part)
        elif kind == "response.output_item.done":
            self.output[event["output_index"]] = event["item"]
        elif "response" in event and event["response"] is not self.response:
            self.response = event["response"]
