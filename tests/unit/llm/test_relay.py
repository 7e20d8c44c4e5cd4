"""What vLLM's processes write: lines of the log pass, anything else is only counted."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloister_llm.relay import Relay

MARK = b"0123456789abcdef "
SECRET = b"the secret sentence of a user"
OWN = b'{"event": "own"}'


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def relayed(pipe: tuple[int, int]) -> Callable[..., list[dict[str, Any]]]:
    """What comes out of a relay that is fed these pieces; every line must be JSON."""

    def relay(*pieces: bytes) -> list[dict[str, Any]]:
        reading, writing = pipe
        relay = Relay(MARK, writing)
        for piece in pieces:
            relay.feed(piece)
        relay.end()
        os.write(writing, b"end\n")
        output = b""
        while not output.endswith(b"end\n"):
            output += os.read(reading, 65536)
        assert SECRET not in output
        assert MARK not in output
        return [json.loads(line) for line in output.splitlines()[:-1]]

    return relay


def test_lines_of_the_log_pass_as_they_are_however_they_are_cut(relayed: Callable[..., Any]) -> None:
    whole = (MARK + OWN + b"\n") * 3
    assert relayed(*(whole[at : at + 7] for at in range(0, len(whole), 7))) == [{"event": "own"}] * 3


@pytest.mark.parametrize(
    "text",
    [
        SECRET + b"\n",
        SECRET,
        b'{"event": "' + SECRET + b'"}\n',
        b"\xff\x00" + SECRET + b"\n",
        SECRET * 10_000 + b"\n",
        b"SecretError: " + SECRET + b"\n",
    ],
)
def test_any_other_text_is_counted_and_not_shown(text: bytes, relayed: Callable[..., Any]) -> None:
    events = relayed(text)
    assert {event["event"] for event in events} == {"text_dropped"}
    assert sum(event["bytes"] for event in events) == len(text.rstrip(b"\n"))
    assert all((event["service"], event["level"], event["errors"]) == ("llm", "warning", []) for event in events)


def test_text_before_a_line_of_the_log_does_not_spoil_it(relayed: Callable[..., Any]) -> None:
    dropped, own = relayed(SECRET + MARK + OWN + b"\n")
    assert (dropped["event"], own) == ("text_dropped", {"event": "own"})


@pytest.mark.parametrize("name", ["MemoryError", "torch.OutOfMemoryError", "KeyboardInterrupt"])
def test_a_traceback_is_one_event_with_its_class(name: str, relayed: Callable[..., Any]) -> None:
    traceback = b'Traceback (most recent call last):\n  File "x.py", line 1\n    f()\n%b: %b\n'
    (event,) = relayed(traceback % (name.encode(), SECRET))
    assert (event["lines"], event["errors"]) == (4, [name.rpartition(".")[2]])
