"""Citations by the real MiniLM of true and subtly false sentences, beside three passages each."""

from collections.abc import Sequence

import numpy as np
import pytest
from cloister_gateway.grounding import Mark, Passage, attribute
from cloister_gateway.grounding.evidence import Reading, Support
from sentence_transformers import SentenceTransformer

from tests.support.claims import TOPICS
from tests.support.models import minilm_folder

PASSAGES = [
    Passage(f"file-{place}", topic.filename, 0.8, topic.text, None, None, None) for place, topic in enumerate(TOPICS)
]
OTHERS = 2


@pytest.fixture(scope="module")
def vectors() -> dict[str, list[float]]:
    """Vectors of all sentences and of all that may be evidence for one, made in one go."""
    texts: dict[str, None] = {}
    for place, topic in enumerate(TOPICS):
        supports = [Support(passage.text, passage.filename) for passage in beside(place)]
        for sentence in (*topic.true, *topic.false):
            evidence = [support.evidence(Reading(sentence)) for support in supports]
            texts |= dict.fromkeys([sentence, *(one.quote for one in evidence if one)])
    model = SentenceTransformer(str(minilm_folder()), local_files_only=True, device="cpu")
    made = np.asarray(model.encode(list(texts), normalize_embeddings=True))
    return dict(zip(texts, made.tolist(), strict=True))


def beside(topic: int) -> list[Passage]:
    """The passage that is meant, and others."""
    return [PASSAGES[(topic + place) % len(PASSAGES)] for place in range(OTHERS + 1)]


@pytest.mark.parametrize("mark", [True, False])
async def test_what_a_passage_says_is_cited_and_what_only_sounds_like_it_is_not(
    vectors: dict[str, list[float]], mark: bool
) -> None:
    async def embed(texts: Sequence[str]) -> list[list[float]]:
        return [vectors[text] for text in texts]

    async def cited(sentence: str, topic: int) -> list[str]:
        passages = beside(topic)
        marks = [Mark(0, len(sentence))] if mark else []
        found = await attribute(sentence, passages, marks=marks, embed=embed)
        assert all(one.quote in passages[one.passage].text for one in found)
        return [passages[one.passage].file_id for one in found]

    missed, believed = [], []
    for place, topic in enumerate(TOPICS):
        missed += [one for one in topic.true if await cited(one, place) != [f"file-{place}"]]
        believed += [one for one in topic.false if await cited(one, place)]
    true, false = (sum(len(getattr(topic, kind)) for topic in TOPICS) for kind in ("true", "false"))
    assert min(true, false) >= 60
    assert len(missed) <= 0.1 * true, f"without the right citation: {missed}"
    assert len(believed) <= 0.05 * false, f"false, and cited: {believed}"
