"""What Milvus gets to see: quoted values, rotated vectors, rows that open only where they belong."""

import json

import numpy as np
import pytest
from cloister_common.vault import DataKey, VaultError
from cloister_retriever.index.passages import (
    Passage,
    PassageOwner,
    open_passage,
    open_vector,
    passage_id,
    seal_passage,
)
from cloister_retriever.index.protocol import SealedPassage
from cloister_retriever.index.quoting import all_of, equals, one_of, quote
from cloister_retriever.index.rotation import Rotations, normalised, rotation_matrix
from cloister_retriever.keys import PassageKeys, passage_keys
from hypothesis import given, settings
from hypothesis import strategies as st

OWNER = PassageOwner("proj_a", "vs_1", "file-1", "vsf_1")


@given(value=st.text())
def test_a_quoted_value_is_one_literal_with_the_same_value(value: str) -> None:
    literal = quote(value)
    assert json.loads(literal) == value
    assert literal[0] == literal[-1] == '"'
    assert literal.isascii() <= value.isascii()


def test_expressions() -> None:
    assert equals("store_id", 'a" or "1') == 'store_id == "a\\" or \\"1"'
    assert all_of(equals("a", "1"), one_of("b", ["x", "y"])) == 'a == "1" and b in ["x", "y"]'


def test_a_rotation_is_orthogonal_and_made_by_the_seed_alone() -> None:
    matrix = rotation_matrix(b"a" * 32, 96)
    assert np.allclose(matrix @ matrix.T, np.eye(96), atol=1e-5)
    assert np.array_equal(matrix, rotation_matrix(b"a" * 32, 96))
    other = rotation_matrix(b"b" * 32, 96)
    assert np.abs(matrix - other).max() > 0.1


def test_a_rotated_vector_says_nothing_about_its_original_direction() -> None:
    vectors = normalised(np.random.default_rng(1).standard_normal((200, 384)).astype(np.float32))
    rotated = Rotations().rotate(b"a" * 32, vectors)
    cosines = np.sum(vectors * rotated, axis=1)
    # Random unit vectors in 384 dimensions have cosines of about 1/sqrt(384) = 0.05.
    assert np.abs(cosines).mean() < 0.08


@given(seed=st.binary(min_size=32, max_size=32), numbers=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_rotated_search_with_exact_rescoring_gives_the_plain_top_ten(seed: bytes, numbers: int) -> None:
    random = np.random.default_rng(numbers)
    vectors = normalised(random.standard_normal((300, 64)).astype(np.float32))
    query = normalised(random.standard_normal((1, 64)).astype(np.float32))
    plain = np.argsort(-(vectors @ query[0]), kind="stable")[:10]
    rotations = Rotations()
    seen = rotations.rotate(seed, vectors) @ rotations.rotate(seed, query)[0]
    candidates = np.argsort(-seen, kind="stable")[:50]
    rescored = sorted(candidates, key=lambda row: -float(vectors[row] @ query[0]))[:10]
    assert sorted(plain) == sorted(rescored)


def test_the_zero_vector_stays_finite() -> None:
    assert np.array_equal(normalised(np.zeros((1, 4), np.float32)), np.zeros((1, 4), np.float32))


def keys_of(store: bytes = b"s", file: bytes = b"f") -> PassageKeys:
    return passage_keys(DataKey(store * 32, tenant="proj_a"), DataKey(file * 32, tenant="proj_a"))


def row_of(
    position: int = 3,
    keys: PassageKeys | None = None,
    owner: PassageOwner = OWNER,
    text: str = "the zebra eats grass",
) -> SealedPassage:
    vector = normalised(np.arange(1, 9, dtype=np.float32)[None])[0]
    passage = Passage(position=position, text=text, start=10, end=30, page=2, section="Diet")
    return seal_passage(keys or keys_of(), owner, passage, vector)


def test_a_row_opens_to_what_was_sealed_and_shows_none_of_it() -> None:
    row = row_of()
    assert open_passage(keys_of(), OWNER, row).text == "the zebra eats grass"
    assert open_vector(keys_of(), OWNER, row)[0] == pytest.approx(1 / np.sqrt(204), abs=1e-6)
    assert "zebra" not in json.dumps(row)


@pytest.mark.parametrize("field", ["tenant", "store_id", "file_id", "attachment_id"])
def test_a_row_does_not_open_for_another_owner(field: str) -> None:
    other = OWNER._replace(**{field: "other"})  # type: ignore[arg-type] # a field of text
    with pytest.raises(VaultError):
        open_passage(keys_of(), other, row_of())
    with pytest.raises(VaultError):
        open_vector(keys_of(), other, row_of())


@pytest.mark.parametrize("keys", [keys_of(store=b"x"), keys_of(file=b"x")])
def test_a_row_needs_the_stores_key_and_the_files(keys: PassageKeys) -> None:
    with pytest.raises(VaultError):
        open_passage(keys, OWNER, row_of())
    with pytest.raises(VaultError):
        open_vector(keys, OWNER, row_of())


def test_a_row_does_not_open_at_another_position_or_with_another_rows_field() -> None:
    moved = row_of(3)._replace(position=4)
    mixed = row_of(3)._replace(sealed_vector=row_of(4).sealed_vector)
    for row in (moved, mixed):
        with pytest.raises(VaultError):
            open_vector(keys_of(), OWNER, row)


@pytest.mark.parametrize("value", ["", "not base64!", "QUJD"])
def test_a_field_that_was_replaced_does_not_open(value: str) -> None:
    with pytest.raises(VaultError):
        open_passage(keys_of(), OWNER, row_of()._replace(sealed_passage=value))


def test_passage_ids_are_the_same_each_time_and_differ_by_attachment_and_store() -> None:
    first = passage_id(keys_of(), OWNER, 0)
    assert first == passage_id(keys_of(), OWNER, 0)
    assert len({first, passage_id(keys_of(), OWNER, 1), passage_id(keys_of(store=b"x"), OWNER, 0)}) == 3
    assert first != passage_id(keys_of(), OWNER._replace(attachment_id="vsf_2"), 0)
