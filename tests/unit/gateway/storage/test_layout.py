"""Every key of the gateway's Redis is spelled in `storage/layout.py`, and those of one object lie in one slot."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import cloister_gateway
from cloister_gateway.storage import layout
from redis.crc import key_slot

PACKAGE = Path(cloister_gateway.__path__[0])
KEY = re.compile(
    r"(conv|resp|runs?|conversation|idem|vault|identity|gw):\S*"  # how keys and channels begin
    r"|:(items|removed|responses|events|lease)"  # how they end
    r"|conv|resp"  # the kinds
)


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Strings, and the constant parts of f-strings, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def test_no_other_file_spells_a_key() -> None:
    spelled = [
        f"{path.relative_to(PACKAGE)}:{line} {text!r}"
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "storage" / "layout.py"
        for line, text in literals(path.read_text())
        if KEY.fullmatch(text)
    ]
    assert spelled == []


def test_the_search_finds_keys_however_they_are_spelled() -> None:
    source = "a = f'conv:{{{x}}}'; b = f'{key}:events'; c = 'runs:active'; d = KeyedObject('resp', x); e = f'run:{x}'"
    found = {text for _, text in literals(source) if KEY.fullmatch(text)}
    assert found == {"conv:{", ":events", "runs:active", "resp", "run:"}


def test_all_keys_of_an_object_share_a_slot() -> None:
    conversation = [
        layout.record_key(layout.CONVERSATION, "conv_1"),
        layout.items_key(layout.CONVERSATION, "conv_1"),
        layout.removed_key(layout.CONVERSATION, "conv_1"),
        layout.responses_key("conv_1"),
    ]
    response = [layout.record_key(layout.RESPONSE, "resp_1"), layout.events_key("resp_1"), layout.lease_key("resp_1")]
    for keys in (conversation, response):
        assert len({key_slot(key.encode()) for key in keys}) == 1
        assert len(set(keys)) == len(keys)


def test_no_two_keys_or_channels_can_be_one() -> None:
    made = [
        function(*["x"] * len(inspect.signature(function).parameters))
        for name, function in inspect.getmembers(layout, inspect.isfunction)
        if name in layout.__all__
    ]
    constants = [layout.RUNS_ACTIVE, layout.RUNS_ENDED, layout.IDENTITY_PROJECTS, layout.IDENTITY_BOOTSTRAP]
    every = [*made, *constants, layout.ANNOUNCEMENT_CHANNEL]
    assert len(set(every)) == len(every)
