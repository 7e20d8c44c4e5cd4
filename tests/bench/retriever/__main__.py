"""Retrieval quality: what the retriever finds beside either half alone, and beside the same without protection.

    python -m tests.bench.retriever --data FOLDER [--milvus lite|235] [--questions N] [--passages N]
    python -m tests.bench.retriever --bulk          files in bulk: see `tests.bench.retriever.bulk`

FOLDER has ``passages.jsonl`` (``{id, text}``) and ``questions.jsonl`` (``{turns: [{role, text}], relevant: [id]}``).
Passages go in as Markdown files with the passage's id as heading, so that a result's ``section`` names the passage.
A question is asked by the queries that the gateway makes of its turns. The table has, of one run:

    words alone          BM25 in this process, over the terms that the retriever takes
    meaning alone        cosines in this process, over the same embedder's vectors
    both, unprotected    the two fused in this process, with nothing keyed, turned or sealed
    product, standard    the retriever with Milvus
    product, sealed      the retriever with everything in memory

nDCG@10 has binary relevance. The seconds of the product have the embedding of the queries in them; those of this
process have not.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai
from cloister_gateway.grounding.search import Retrieval
from cloister_retriever.search.fusion import Weights, fused
from cloister_retriever.terms.postings import PostingsWriter
from cloister_retriever.terms.store import Segment, StoreWords
from cloister_retriever.terms.weights import TermKey, asked_terms, passage_terms
from cloister_retriever.terms.words import language_of, words_of
from numpy.typing import NDArray

from tests.bench.retriever import bulk
from tests.support.documents import ingested, place, upload
from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import real_embedder
from tests.support.milvus import MilvusLite, MilvusServer235
from tests.support.models import MINILM
from tests.support.retriever import TENANT, RetrieverProcess
from tests.support.retriever_parts import read_here

_PASSAGES_A_FILE = 100
_TEXTS_A_CALL = 64


class Question(NamedTuple):
    """The queries of a turn, and the passages that answer it."""

    queries: list[str]
    relevant: set[str]


class Chunk(NamedTuple):
    """A passage as the retriever cut it: the passage of the data set that it is of, and its text."""

    source: str
    text: str


def main() -> None:
    """Runs the comparison and prints its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.retriever")
    parser.add_argument("--data", type=Path, help="required without --bulk")
    parser.add_argument(
        "--milvus", choices=["none", "lite", "235"], help="with --bulk none, which is sealed; else lite"
    )
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--passages", type=int, help="fewer passages: those that answer a question, then others")
    parser.add_argument("--bulk", action="store_true", help="how fast many files are searchable, and one beside them")
    bulk.add_arguments(parser)
    arguments = parser.parse_args()
    if arguments.bulk:
        bulk.measure(arguments)
        return
    if arguments.data is None or arguments.milvus == "none":
        parser.error("the comparison needs --data, and a Milvus")
    passages = _lines(arguments.data / "passages.jsonl")
    questions = [
        Question(
            Retrieval.queries([{"role": turn["role"], "content": turn["text"]} for turn in line["turns"]]),
            set(line["relevant"]),
        )
        for line in _lines(arguments.data / "questions.jsonl")[: arguments.questions]
    ]
    wanted = {one for question in questions for one in question.relevant}
    passages = sorted(passages, key=lambda one: one["id"] not in wanted)[: arguments.passages]
    with tempfile.TemporaryDirectory() as name, real_embedder(Path(name), texts_only=True) as embedder:
        folder = Path(name)
        server = (MilvusServer235 if arguments.milvus == "235" else MilvusLite)(folder)
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
    store, files, chunks = _ingest(sdk, passages)
    print(f"{len(passages)} passages, {len(chunks)} chunks, ingested in {time.monotonic() - started:.1f} s", flush=True)
    sealed = sdk.vector_stores.create(name="sealed", extra_body={"protection": "sealed"}).id
    sdk.vector_stores.file_batches.create(sealed, file_ids=files)
    assert ingested(sdk, sealed, seconds=3600).file_counts.completed == len(files)
    plain = Plain(embedder, chunks)
    vectors = _embed(embedder, [query for question in questions for query in question.queries])
    asked = iter(vectors)
    exact = {query: next(asked) for question in questions for query in question.queries}
    ways: dict[str, Callable[[list[str]], list[str]]] = {
        "words alone": lambda queries: plain.best(queries, exact, Weights(0, 1)),
        "meaning alone": lambda queries: plain.best(queries, exact, Weights(1, 0)),
        "both, unprotected": lambda queries: plain.best(queries, exact, Weights()),
        "product, standard": lambda queries: _search(sdk, store, queries),
        "product, sealed": lambda queries: _search(sdk, sealed, queries),
    }
    print(f"{'method':20} nDCG@10  recall@10  queries/s  p50 ms  p95 ms")
    for name, search in ways.items():
        seconds, qualities = [], []
        for question in questions:
            started = time.perf_counter()
            found = search(question.queries)
            seconds.append(time.perf_counter() - started)
            qualities.append(_quality(found, question.relevant))
        ndcg, recall = (statistics.mean(values) for values in zip(*qualities, strict=True))
        ordered = sorted(seconds)
        p50, p95 = statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.95)] * 1000
        print(f"{name:20} {ndcg:7.3f}  {recall:9.3f}  {len(seconds) / sum(seconds):9.1f}  {p50:6.1f}  {p95:6.1f}")


class Plain:
    """The same search over chunks in this process, protected by nothing."""

    def __init__(self, embedder: str, chunks: Sequence[Chunk]) -> None:
        self._sources = [chunk.source for chunk in chunks]
        self._vectors = _embed(embedder, [chunk.text for chunk in chunks])
        self._key = TermKey(bytes(32))
        language = language_of(" ".join(chunk.text for chunk in chunks[:20]))
        writer = PostingsWriter(language)
        # The heading is among a passage's words, as the retriever has it; it names the passage and no question does.
        said = (f"{chunk.source}\n{chunk.text}" for chunk in chunks)
        writer.add(passage_terms(self._key, words_of(text, [language])) for text in said)
        self._words = StoreWords([Segment(writer.postings(to_search=True), [("", len(chunks))])])

    def best(self, queries: Sequence[str], exact: Mapping[str, NDArray[np.float32]], weights: Weights) -> list[str]:
        """The sources of the ten best chunks."""
        frequencies = self._words.frequencies()
        scores = np.zeros(len(self._sources))
        for query in queries:
            cosines = self._vectors @ exact[query]
            terms = asked_terms(self._key, words_of(query, frequencies.languages), frequencies)
            found = self._words.scores(terms.weights)
            for row, cosine in enumerate(cosines):
                share = (found.of("", row) or 0.0) / terms.most if terms.weights else None
                scores[row] = max(scores[row], fused(float(cosine), share, weights))
        return [self._sources[int(row)] for row in np.argsort(-scores, kind="stable")[:10]]


def _ingest(sdk: openai.OpenAI, passages: Sequence[dict[str, Any]]) -> tuple[str, list[str], list[Chunk]]:
    """The store, its files, and every chunk as the retriever cuts it: read here too, by the same program."""
    files: list[str] = []
    chunks: list[Chunk] = []
    for first in range(0, len(passages), _PASSAGES_A_FILE):
        part = passages[first : first + _PASSAGES_A_FILE]
        # A "#" at a line's start would be a heading of its own.
        text = "".join(f"# {one['id']}\n\n{one['text'].replace(chr(10) + '#', chr(10) + ' #')}\n\n" for one in part)
        files.append(upload(sdk, f"{first}.md", text.encode()))
        read = read_here(text.encode(), f"{first}.md")
        chunks += [Chunk(str(chunk.section), read.text[chunk.start : chunk.end]) for chunk in read.chunks]
    store = sdk.vector_stores.create(name="bench", extra_body={"protection": "standard"}).id
    sdk.vector_stores.file_batches.create(store, file_ids=files)
    assert ingested(sdk, store, seconds=3600).file_counts.completed == len(files)
    return store, files, chunks


def _search(sdk: openai.OpenAI, store: str, queries: list[str]) -> list[str]:
    found = sdk.vector_stores.search(store, query=queries, max_num_results=10).data
    return [str(place(one)["section"]) for one in found]


def _embed(embedder: str, texts: Sequence[str]) -> NDArray[np.float32]:
    client = openai.OpenAI(base_url=f"{embedder}/v1", api_key=EMBEDDER_TOKEN, timeout=600)
    rows: list[list[float]] = []
    for first in range(0, len(texts), _TEXTS_A_CALL):
        answer = client.embeddings.create(model=MINILM, input=list(texts[first : first + _TEXTS_A_CALL]))
        rows += [row.embedding for row in answer.data]
    return np.asarray(rows, np.float32)


def _quality(found: Sequence[str], relevant: set[str]) -> tuple[float, float]:
    """nDCG@10 with binary relevance, and Recall@10, of the data set's passages in their order of first appearance."""
    order = list(dict.fromkeys(found))
    gain = sum(1 / math.log2(rank + 2) for rank, source in enumerate(order) if source in relevant)
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(10, len(relevant))))
    return gain / ideal, len(relevant & set(order)) / len(relevant)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


if __name__ == "__main__":
    main()
