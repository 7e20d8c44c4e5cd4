"""A file in segments: whole and in order it opens; cut, swapped, repeated or mixed with another it does not."""

import pytest
from cloister_common.vault import SEGMENT_BYTES, VaultError, encode_context, open_segment, seal_segment
from hypothesis import given
from hypothesis import strategies as st

KEY = bytes(range(32))
FILE = encode_context("file", "tenant-a", "file-1")
OTHER = encode_context("file", "tenant-a", "file-2")


def sealed(context: bytes, pieces: list[bytes]) -> list[bytes]:
    return [
        seal_segment(KEY, piece, context, index=index, last=index == len(pieces) - 1)
        for index, piece in enumerate(pieces)
    ]


def opened(context: bytes, records: list[bytes]) -> list[bytes]:
    return [
        open_segment(KEY, record, context, index=index, last=index == len(records) - 1)
        for index, record in enumerate(records)
    ]


@given(pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_whole_file_opens(pieces: list[bytes]) -> None:
    assert opened(FILE, sealed(FILE, pieces)) == pieces


def test_full_segment_opens() -> None:
    piece = b"z" * SEGMENT_BYTES
    assert opened(FILE, sealed(FILE, [piece, b"rest"])) == [piece, b"rest"]


@given(pieces=st.lists(st.binary(max_size=8), min_size=2, max_size=6), data=st.data())
def test_any_other_arrangement_of_the_segments_is_refused(pieces: list[bytes], data: st.DataObject) -> None:
    records = sealed(FILE, pieces)
    order = data.draw(st.lists(st.sampled_from(range(len(records))), min_size=1, max_size=8))
    if order == list(range(len(records))):
        return
    with pytest.raises(VaultError):
        opened(FILE, [records[index] for index in order])


def test_truncated_file_is_refused_at_its_new_end() -> None:
    records = sealed(FILE, [b"one", b"two", b"three"])
    with pytest.raises(VaultError):
        opened(FILE, records[:2])


def test_segment_of_another_file_is_refused() -> None:
    mixed = [sealed(FILE, [b"a", b"b"])[0], sealed(OTHER, [b"a", b"b"])[1]]
    with pytest.raises(VaultError):
        opened(FILE, mixed)
