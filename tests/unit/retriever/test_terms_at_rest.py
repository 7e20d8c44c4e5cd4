"""What lies at rest of a store's words: not the words, nor keyed terms that could be confirmed by guessing."""

import hashlib
from typing import Literal

import pytest
from cloister_retriever.keys import edition_keys
from cloister_retriever.terms.weights import TermKey, passage_terms
from cloister_retriever.terms.words import language_of, words_of
from cloister_retriever.vector_stores.schemas import CreateStore

from tests.support.retriever_memory import TENANT, MemoryProcess, MemoryRoot, Stored
from tests.unit.retriever.test_crashes import settled, short_pauses

__all__ = ["short_pauses"]

TEXT = " ".join(f"parsnip{number}" for number in range(40))
BY_CHANCE = 2
"""Ids have four bytes: among some hundred thousand that lie there, one may stand for none of them."""


@pytest.mark.parametrize("protection", ["standard", "sealed"])
async def test_no_term_can_be_confirmed_from_what_is_stored_even_by_who_knows_its_id(
    protection: Literal["standard", "sealed"],
) -> None:
    process = MemoryProcess(Stored(), MemoryRoot())
    file = await process.upload(TEXT)
    store = await process.stores.create(TENANT, CreateStore(file_ids=[file.id], protection=protection))
    await settled(process)
    opened = await process.stores.get(TENANT, store.id)
    real = edition_keys(opened.key).terms
    words = words_of(TEXT, [language_of(TEXT)])
    terms = passage_terms(TermKey(real), words)
    known = (
        await process.words.of(TENANT, (await process.stores.open(TENANT, store.id)).place, opened.key, 0.0)
    ).frequencies()
    assert all(known.of(list(terms)))  # the ids are those that are in use
    objects = [await process.objects.get(one.path) or b"" for one in await process.objects.list("")]
    stored = b"\n".join([*objects, repr(process.stored.rows).encode()])
    assert b"parsnip" not in stored
    guesses = [real, bytes(32), *(hashlib.sha256(name.encode()).digest() for name in (TENANT, store.id, file.id, ""))]
    for key in guesses:
        ids = passage_terms(TermKey(key), words)
        there = [one for one in ids if one.to_bytes(4, "little") in stored or one.to_bytes(4, "big") in stored]
        written = [one for one in ids if str(one).encode() in stored or f"{one:08x}".encode() in stored]
        assert len(there) + len(written) <= BY_CHANCE
