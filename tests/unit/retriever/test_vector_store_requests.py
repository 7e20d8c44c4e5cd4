"""What is wrong in a request about vector stores is named by its place."""

from typing import Any

import pytest
from cloister_common.validation import body_error
from cloister_retriever.vector_stores.schemas import CreateBatch
from pydantic import ValidationError


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            {
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 1, "chunk_overlap_tokens": 0},
                }
            },
            "chunking_strategy.static.max_chunk_size_tokens",
        ),
        ({"chunking_strategy": {"type": "cut"}}, "chunking_strategy.type"),
        ({"files": [{"file_id": "g"}]}, "file_ids"),
        ({"file_ids": None}, "file_ids"),
        ({"file_ids": None, "files": [{"file_id": "g"}], "attributes": {}}, "attributes"),
        ({"file_ids": None, "files": [{"file_id": "g"}], "chunking_strategy": {"type": "auto"}}, "chunking_strategy"),
    ],
)
def test_the_error_of_a_batch_names_the_field_as_its_caller_wrote_it(body: dict[str, Any], param: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CreateBatch.model_validate({"file_ids": ["f"], **body})
    assert body_error(refused.value).param == param
