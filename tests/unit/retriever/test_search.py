"""What candidates become: results in OpenAI's shape, with scores in its range, and none that does not open."""

import pytest
from cloister_retriever.search.service import _Candidate, _results
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Chunking

from tests.unit.retriever.test_index import OWNER, keys_of, row_of

ATTACHED = Attached(
    record=AttachmentRecord(
        id=OWNER.attachment_id,
        store_id=OWNER.store_id,
        file_id=OWNER.file_id,
        file_name="zoo.md",
        created_at=1,
        attributes={"n": 1},
        chunking=Chunking(max_tokens=200, overlap_tokens=40),
    ),
    outcome=None,
)


def candidate(score: float, position: int) -> _Candidate:
    return _Candidate(score, row_of(position), ATTACHED, keys_of(), OWNER)


@pytest.mark.parametrize(("cosine", "score"), [(1.0000002, 1.0), (0.5, 0.5), (0.0, 0.0), (-0.25, 0.0)])
def test_a_score_is_the_cosine_within_openais_range(cosine: float, score: float) -> None:
    [found] = _results([candidate(cosine, 3)], 10)
    assert (found.score, found.filename, found.passage.index) == (score, "zoo.md", 3)


def test_a_passage_that_does_not_open_makes_room_for_the_next() -> None:
    moved = candidate(0.9, 0)._replace(sealed=row_of(0)._replace(position=1))
    found = _results([moved, candidate(0.8, 1), candidate(0.7, 2), candidate(0.6, 3)], 2)
    assert [one.passage.index for one in found] == [1, 2]
