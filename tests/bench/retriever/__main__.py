"""Retrieval quality: the retriever's results against plain exact search over the same vectors.

    python -m tests.bench.retriever --data FOLDER [--milvus lite|235] [--questions N] [--passages N]

FOLDER has ``passages.jsonl`` (``{id, text}``) and ``questions.jsonl`` (``{turns: [{role, text}], relevant: [id]}``).
Passages go in as Markdown files with the passage's id as heading, so that a result's ``section`` names the passage.
The plain search embeds the passages the retriever made once more and multiplies; a rotation with exact re-scoring must
give the same top ten, but for passages whose scores are nearer to each other than two embeddings of one text are: the
embedder computes in bfloat16 where the processor can, and a text's vector then depends a little on its batch. nDCG@10
and Recall@10 are of the last user turn, without rewriting.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai
from numpy.typing import NDArray

from tests.support.documents import ingested, place, upload
from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import real_embedder
from tests.support.milvus import MilvusLite, MilvusServer235
from tests.support.models import MINILM
from tests.support.retriever import TENANT, RetrieverProcess

_PASSAGES_A_FILE = 100
_TEXTS_A_CALL = 64


class Question(NamedTuple):
    """The last user turn, and the passages that answer it."""

    text: str
    relevant: set[str]


class Found(NamedTuple):
    """A passage of ours as a search gave it."""

    passage: str
    source: str
    score: float


def main() -> None:
    """Runs the comparison and prints its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retriever")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--milvus", choices=["lite", "235"], default="lite")
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--passages", type=int, help="fewer passages: those that answer a question, then others")
    arguments = parser.parse_args()
    passages = _lines(arguments.data / "passages.jsonl")
    questions = [
        Question([turn for turn in line["turns"] if turn["role"] == "user"][-1]["text"], set(line["relevant"]))
        for line in _lines(arguments.data / "questions.jsonl")[: arguments.questions]
    ]
    wanted = {one for question in questions for one in question.relevant}
    passages = sorted(passages, key=lambda one: one["id"] not in wanted)[: arguments.passages]
    with tempfile.TemporaryDirectory() as name, real_embedder(Path(name)) as embedder:
        folder = Path(name)
        server = (MilvusLite if arguments.milvus == "lite" else MilvusServer235)(folder)
        server.start()
        patient = {"timeout_seconds": 30}  # a busy machine should cost time, not the whole run
        retriever = RetrieverProcess(
            folder / "retriever", milvus_uri=server.uri, embedder_url=embedder, milvus={"uri": server.uri, **patient}
        )
        try:
            retriever.start()
            _compare(retriever, embedder, passages, questions)
        finally:
            retriever.stop()
            server.stop()


def _compare(
    retriever: RetrieverProcess, embedder: str, passages: Sequence[dict[str, Any]], questions: Sequence[Question]
) -> None:
    sdk = retriever.openai(TENANT)
    started = time.monotonic()
    store, texts = _ingest(sdk, passages)
    print(f"{len(passages)} passages, {len(texts)} chunks, ingested in {time.monotonic() - started:.1f} s")
    ids = list(texts)
    exact = _embed(embedder, [texts[one][1] for one in ids])
    queries = _embed(embedder, [question.text for question in questions])
    seconds, overlaps, drift, ours_scores, plain_scores = [], [], 0.0, [], []
    for question, query in zip(questions, queries, strict=True):
        started = time.perf_counter()
        ours = _search(sdk, store, question.text)
        seconds.append(time.perf_counter() - started)
        scores = exact @ query
        best = [int(row) for row in np.argsort(-scores, kind="stable")[:10]]
        plain = [Found(ids[row], texts[ids[row]][0], float(scores[row])) for row in best]
        overlaps.append(len({one.passage for one in ours} & {one.passage for one in plain}))
        for one in ours:
            drift = max(drift, abs(one.score - float(scores[ids.index(one.passage)])))
        ours_scores.append(_quality(ours, question.relevant))
        plain_scores.append(_quality(plain, question.relevant))
    print(
        f"of the plain top ten, the retriever has {statistics.mean(overlaps):.2f} on average, {min(overlaps)} at least"
    )
    print(f"largest difference of one passage's two scores: {drift:.4f}")
    for label, scores_of in (("retriever", ours_scores), ("plain exact", plain_scores)):
        ndcg, recall = (statistics.mean(values) for values in zip(*scores_of, strict=True))
        print(f"{label:12} nDCG@10 {ndcg:.3f}  Recall@10 {recall:.3f}")
    ordered = sorted(seconds)
    p95 = ordered[int(len(ordered) * 0.95)]
    print(f"search p50 {statistics.median(ordered) * 1000:.1f} ms, p95 {p95 * 1000:.1f} ms (embedding included)")


def _ingest(sdk: openai.OpenAI, passages: Sequence[dict[str, Any]]) -> tuple[str, dict[str, tuple[str, str]]]:
    """The store, and (passage of the data set, text) of every chunk by its id."""
    files = []
    for first in range(0, len(passages), _PASSAGES_A_FILE):
        part = passages[first : first + _PASSAGES_A_FILE]
        # A "#" at a line's start would be a heading of its own.
        text = "".join(f"# {one['id']}\n\n{one['text'].replace(chr(10) + '#', chr(10) + ' #')}\n\n" for one in part)
        files.append(upload(sdk, f"{first}.md", text.encode()))
    store = sdk.vector_stores.create(name="bench").id
    sdk.vector_stores.file_batches.create(store, file_ids=files)
    assert ingested(sdk, store, seconds=3600).file_counts.completed == len(files)
    chunks: dict[str, tuple[str, str]] = {}
    for one in passages:
        for found in sdk.vector_stores.search(store, query=one["text"][:2000], max_num_results=50).data:
            chunks[place(found)["id"]] = (str(place(found)["section"]), found.content[0].text)
    return store, chunks


def _search(sdk: openai.OpenAI, store: str, query: str) -> list[Found]:
    results = sdk.vector_stores.search(store, query=query, max_num_results=10).data
    return [Found(place(one)["id"], str(place(one)["section"]), one.score) for one in results]


def _embed(embedder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    client = openai.OpenAI(base_url=f"{embedder}/v1", api_key=EMBEDDER_TOKEN, timeout=600)
    rows: list[list[float]] = []
    for first in range(0, len(texts), _TEXTS_A_CALL):
        answer = client.embeddings.create(model=MINILM, input=list(texts[first : first + _TEXTS_A_CALL]))
        rows += [row.embedding for row in answer.data]
    return np.asarray(rows, np.float32)


def _quality(found: Sequence[Found], relevant: set[str]) -> tuple[float, float]:
    """nDCG@10 with binary relevance, and Recall@10, of the data set's passages in their order of first appearance."""
    order = list(dict.fromkeys(one.source for one in found))
    gain = sum(1 / math.log2(rank + 2) for rank, source in enumerate(order) if source in relevant)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    return gain / ideal, len(relevant & set(order)) / len(relevant)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
