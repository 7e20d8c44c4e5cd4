"""Every key of the gateway's Redis is spelled in `storage/layout.py`, and those of one object lie in one slot."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cloister_gateway
import pytest
from cloister_common.ids import new_id
from cloister_gateway.storage import layout
from redis.crc import key_slot

PACKAGE = Path(cloister_gateway.__path__[0])
KEY = re.compile(
    r"(conv|resp|runs?|conversation|idem|ticket|vault|identity|catalog|gw):\S*"  # how keys and channels begin
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


@pytest.mark.parametrize("beside", ["conv:{conv_1}", "idem:0123", "resp:{resp_" + "0" * 48 + "}"])
def test_a_new_response_lies_with_all_of_it_in_the_slot_it_was_made_for(beside: str) -> None:
    made = {layout.new_response_id(beside) for _ in range(50)}
    assert len({response_id[:39] for response_id in made}) == 50, "the part before the steering digits is random"
    for response_id in made:
        assert re.fullmatch(r"resp_[0-9a-f]{34}[01]{14}", response_id)
        keys = [
            layout.record_key(layout.RESPONSE, response_id),
            layout.events_key(response_id),
            layout.lease_key(response_id),
            layout.wrapped_key_key(f"resp:{response_id}", sharded=True),
        ]
        assert {key_slot(key.encode()) for key in keys} == {key_slot(beside.encode())}


def test_wrapped_keys_stay_where_earlier_versions_write_and_look_for_them() -> None:
    before = ["resp:" + new_id("resp_"), "conv:" + new_id("conv_"), "tenant:proj_1:1", "root-check"]
    for name in (*before, "resp:" + layout.new_response_id("x")):
        assert layout.wrapped_key_key(name) == f"vault:{name}"
    for name in before:
        assert layout.wrapped_key_key(name, sharded=True) == f"vault:{name}"


@pytest.mark.parametrize("sharded", [False, True])
def test_a_wrapped_key_is_told_from_where_it_lies(sharded: bool) -> None:
    for name in ("resp:" + layout.new_response_id("x"), "conv:" + new_id("conv_"), "tenant:proj_1:1"):
        assert layout.wrapped_key_name(layout.wrapped_key_key(name, sharded=sharded)) == name


@pytest.mark.parametrize("sharded", [False, True])
def test_no_two_keys_or_channels_can_be_one(sharded: bool) -> None:
    made = [
        function(*["x"] * _positional(function))
        for name, function in inspect.getmembers(layout, inspect.isfunction)
        if name in layout.__all__
    ]
    constants = [layout.RUNS_ACTIVE, layout.RUNS_ENDED]
    every = [*made, *constants, *identity(sharded), layout.ANNOUNCEMENT_CHANNEL]
    assert len(set(every)) == len(every)


def identity(sharded: bool) -> list[str]:
    """One of each key of identity."""
    keys = layout.IdentityKeys(sharded)
    owned = [
        make("x") for make in (keys.project, keys.account, keys.accounts, keys.key, keys.rights, keys.unlisted_keys)
    ]
    return [keys.projects, keys.bootstrap, *owned, keys.gone("x", "keys"), keys.gone("x", "accounts")]


def test_in_a_cluster_all_of_identity_lies_in_one_slot_and_elsewhere_where_it_always_did() -> None:
    assert len({key_slot(key.encode()) for key in identity(sharded=True)}) == 1
    assert {key.split(":")[0] for key in identity(sharded=False)} == {"identity"}


def test_in_a_cluster_the_channel_of_a_run_lies_in_the_slot_of_its_stream() -> None:
    response_id = layout.new_response_id("conv:{conv_1}")
    channel = layout.run_channel(response_id, sharded=True)
    assert key_slot(channel.encode()) == key_slot(layout.events_key(response_id).encode())


def _positional(function: Callable[..., str]) -> int:
    """How many names the function takes (and not what kind of Redis they are for)."""
    return sum(
        parameter.kind is not parameter.KEYWORD_ONLY for parameter in inspect.signature(function).parameters.values()
    )
