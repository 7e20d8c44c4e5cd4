"""An input file is read in parts, and is the same lines wherever the parts end."""

from typing import Any

import pytest
from cloister_common.caller import NOBODY
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_gateway.batches import lines as reading
from cloister_gateway.batches.lines import InputFile, RawLine, request_of
from hypothesis import given
from hypothesis import strategies as st

URL = "/v1/embeddings"
GOOD = b'{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"model":"m","input":"x"}}'


class Kept:
    """A file that is there."""

    def __init__(self, content: bytes, *, fails: int = 0) -> None:
        self.content_ = content
        self.fails = fails

    async def content(self, tenant: str, file_id: str, *, start: int, stop: int, caller: Any) -> bytes:
        if self.fails:
            self.fails -= 1
            raise Unavailable("away")
        return self.content_[start:stop]


async def read(kept: Kept, *, most: int = 1000) -> list[RawLine]:
    source: Any = kept
    file = InputFile(source, "proj", "file-1", len(kept.content_), caller=NOBODY, most_line_bytes=most)
    return [line async for part in file.parts() for line in part]


@given(lines=st.lists(st.binary(max_size=12).filter(lambda raw: b"\n" not in raw), max_size=8), size=st.integers(1, 9))
async def test_lines_are_the_same_wherever_parts_end(lines: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_PART_BYTES", size)
        found = await read(Kept(b"\n".join(lines)))
    assert [(line.number, line.raw) for line in found] == [
        (number, raw) for number, raw in enumerate(lines, start=1) if raw.strip()
    ]


async def test_a_line_that_is_too_long_is_told_and_the_next_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PART_BYTES", 7)
    found = await read(Kept(b"x" * 50 + b"\nshort\n" + b"y" * 50), most=10)
    assert [(line.number, line.whole, len(line.raw)) for line in found] == [
        (1, False, 10),
        (2, True, 5),
        (3, False, 10),
    ]
    with pytest.raises(InvalidRequest) as error:
        request_of(found[0], URL, most_bytes=10)
    assert error.value.error_code == "line_too_long"


async def test_a_retriever_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FIRST_PAUSE_SECONDS", 0.001)
    assert [line.raw for line in await read(Kept(b"a\nb", fails=2))] == [b"a", b"b"]


def test_a_request_has_its_body_as_it_was_meant() -> None:
    request = request_of(RawLine(1, GOOD), URL, most_bytes=1000)
    assert (request.custom_id, request.value, request.body) == (
        "a",
        {"model": "m", "input": "x"},
        b'{"model":"m","input":"x"}',
    )


@pytest.mark.parametrize(
    ("changed", "code", "param"),
    [
        (b"", "invalid_json_line", None),
        (b"\xff", "invalid_json_line", None),
        (b"null", "invalid_json_line", None),
        (GOOD.replace(b'"a"', b'""'), "invalid_custom_id", "custom_id"),
        (GOOD.replace(b'"a"', b'"' + b"a" * 600 + b'"'), "invalid_custom_id", "custom_id"),
        (GOOD.replace(b"POST", b"post"), "invalid_method", "method"),
        (GOOD.replace(b"/v1/e", b"/v2/e"), "mismatched_endpoint", "url"),
        (GOOD.replace(b'{"model":"m","input":"x"}', b'"x"'), "invalid_body", "body"),
        (GOOD.replace(b'"url"', b'"URL"'), "missing_required_parameter", "url"),
        (GOOD[:-1] + b',"n":1}', "unknown_parameter", "n"),
    ],
)
def test_what_is_no_request_is_refused_by_its_field(changed: bytes, code: str, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as error:
        request_of(RawLine(1, changed), URL, most_bytes=1000)
    assert (error.value.error_code, error.value.param) == (code, param)
