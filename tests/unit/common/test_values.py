"""Values of a JSON body are counted in its bytes, exactly, however they are cut."""

import json
import random
from typing import Any

import pytest
from cloister_common import values
from cloister_common.errors import PayloadTooLarge
from cloister_common.values import check_values


def count(value: Any) -> int:
    """As `check_values` counts."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    if inner is None:
        return 1
    return 1 + sum(map(count, inner)) if inner else 2


def anything(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 4 else 5)
    if kind < 3:
        return "".join(chance.choice('a",[{}]\\\n\u00e9') for _ in range(chance.randrange(12)))
    if kind < 5:
        return chance.choice([1, True, None, 1.5, -7])
    size = chance.randrange(9)
    if kind < 7:
        return [anything(chance, depth + 1) for _ in range(size)]
    return {str(anything(chance, 9)): anything(chance, depth + 1) for _ in range(size)}


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
async def test_the_count_is_exact_whatever_stands_in_strings(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_PIECE_BYTES", piece)
    monkeypatch.setattr(values, "_LEAST_BYTES", 0)
    chance = random.Random(piece)
    for number in range(300):
        value = anything(chance)
        raw, held = json.dumps(value, ensure_ascii=number % 2 == 0).encode(), count(value)
        await check_values(raw, held)
        with pytest.raises(PayloadTooLarge):
            await check_values(raw, held - 1)


@pytest.mark.parametrize(
    "raw", [b'"', b'"\\', b'["' + b"\\" * 200_001, b'"' * 200_000, b'["' + b'\\"' * 200_000 + b'"]', b"\xff" * 200_000]
)
async def test_what_is_no_json_is_counted_to_its_end(raw: bytes) -> None:
    await check_values(raw, 1000)


@pytest.mark.parametrize("body", [[1] * 50_000, [{"a": 1}] * 30_000, {str(number): 1 for number in range(50_000)}])
async def test_a_body_of_small_values_is_refused(body: Any) -> None:
    with pytest.raises(PayloadTooLarge, match="more than 50000 JSON values") as caught:
        await check_values(json.dumps(body).encode(), values.MOST_VALUES)
    assert caught.value.error_code == "too_many_values"


def largest_batch() -> dict[str, Any]:
    chunking = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    attributes = {f"key{number}": "value" for number in range(16)}
    file = {"file_id": "file-0123456789", "attributes": attributes, "chunking_strategy": chunking}
    return {"files": [file] * 2000}


@pytest.mark.parametrize(
    "body",
    [
        largest_batch(),
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "One, two, three."}]}] * 8000},
        {"input": ["One, two, three."] * 2048},
        {"input": "One, two, three, " * 60_000},
    ],
)
async def test_the_largest_honest_bodies_pass(body: Any) -> None:
    await check_values(json.dumps(body).encode(), values.MOST_VALUES)
