"""Sealed records open for the same key and the same context, byte for byte, and for nothing else."""

import hashlib
import os

import pytest
from cloister_common.vault import RECORD_OVERHEAD_BYTES, VaultError, encode_context, open_record, seal
from cloister_common.vault.record import derive, record_epoch
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import example, given, settings
from hypothesis import strategies as st

KEYS = st.binary(min_size=32, max_size=32)
PARTS = st.lists(st.one_of(st.text(max_size=8), st.integers(), st.binary(max_size=8)), max_size=5)
KEY = bytes(range(32))
CONTEXT = encode_context("item", "tenant-a", "conv_1", 7)


@given(key=KEYS, plaintext=st.binary(max_size=2000), parts=PARTS, epoch=st.integers(0, 2**32 - 1))
@example(key=KEY, plaintext=b"", parts=[], epoch=0)
def test_what_was_sealed_opens_unchanged(key: bytes, plaintext: bytes, parts: list[str], epoch: int) -> None:
    context = encode_context(*parts)
    record = seal(key, plaintext, context, epoch=epoch)
    assert open_record(key, record, context) == plaintext
    assert len(record) == len(plaintext) + RECORD_OVERHEAD_BYTES
    assert record_epoch(record) == epoch


@given(key=KEYS, plaintext=st.binary(max_size=200), context=st.binary(max_size=400), epoch=st.integers(0, 2**32 - 1))
def test_a_record_is_what_the_format_says(key: bytes, plaintext: bytes, context: bytes, epoch: int) -> None:
    record = seal(key, plaintext, context, epoch=epoch)
    header, salt, commitment, sealed = record[:9], record[9:41], record[41:73], record[73:]
    assert header == b"CLO1\x01" + epoch.to_bytes(4, "big")
    bound = encode_context("cloister/record/1", header, context)
    info = encode_context("cloister/record-key/1", salt + hashlib.sha256(bound).digest())
    material = HKDFExpand(SHA256(), 76, info).derive(key)
    assert commitment == material[44:]
    assert AESGCM(material[:32]).decrypt(material[32:44], sealed, bound) == plaintext


def test_every_single_bit_flip_is_refused() -> None:
    record = seal(KEY, b"two sealed words", CONTEXT, epoch=3)
    for position in range(len(record) * 8):
        flipped = bytearray(record)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(VaultError):
            open_record(KEY, bytes(flipped), CONTEXT)


@given(cut=st.integers(0, 200), more=st.binary(max_size=40))
def test_truncated_or_lengthened_record_is_refused(cut: int, more: bytes) -> None:
    record = seal(KEY, b"x" * 100, CONTEXT)
    other = record[: max(0, len(record) - cut)] + more
    if other != record:
        with pytest.raises(VaultError):
            open_record(KEY, other, CONTEXT)


@given(noise=st.binary(max_size=400))
def test_bytes_that_are_no_record_are_refused_and_never_crash(noise: bytes) -> None:
    with pytest.raises(VaultError):
        open_record(KEY, noise, CONTEXT)
    with pytest.raises(VaultError):
        record_epoch(b"XXXX" + noise)


@given(parts=PARTS, other=PARTS)
def test_another_context_is_refused(parts: list[str], other: list[str]) -> None:
    context, wrong = encode_context(*parts), encode_context(*other)
    if context != wrong:
        with pytest.raises(VaultError):
            open_record(KEY, seal(KEY, b"x", context), wrong)


@given(key=KEYS)
def test_another_key_is_refused(key: bytes) -> None:
    if key != KEY:
        with pytest.raises(VaultError):
            open_record(key, seal(KEY, b"x", CONTEXT), CONTEXT)


def test_another_epoch_in_the_header_is_refused() -> None:
    record = seal(KEY, b"x", CONTEXT, epoch=1)
    relabelled = record[:5] + (2).to_bytes(4, "big") + record[9:]
    assert record_epoch(relabelled) == 2
    with pytest.raises(VaultError):
        open_record(KEY, relabelled, CONTEXT)


def test_the_same_plaintext_never_looks_the_same_and_never_shows() -> None:
    secret = b"a very recognisable sentence"
    records = {seal(KEY, secret, CONTEXT) for _ in range(50)}
    assert len(records) == 50
    assert len({record[9:41] for record in records}) == 50, "salts are fresh"
    assert all(secret not in record for record in records)


def test_all_failures_are_one_error_without_details() -> None:
    record = seal(KEY, b"x", CONTEXT)
    messages = set()
    for spoiled, context in (
        (b"", CONTEXT),
        (record[:-1], CONTEXT),
        (record, b"other"),
        (b"NOPE" + record[4:], CONTEXT),
    ):
        with pytest.raises(VaultError) as failed:
            open_record(KEY, spoiled, context)
        messages.add(str(failed.value))
    assert len(messages) == 1


@settings(max_examples=50)
@given(labels=st.lists(PARTS, min_size=2, max_size=6))
def test_sub_keys_differ_by_label_and_length_is_as_asked(labels: list[list[str]]) -> None:
    key = os.urandom(32)
    distinct = {encode_context(*label) for label in labels}
    assert len({derive(key, *label) for label in labels}) == len(distinct)
    assert len(derive(key, "x", length=76)) == 76
