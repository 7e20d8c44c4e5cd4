"""Files in bulk: how fast small ones become searchable, and how long another tenant's waits beside them.

    python -m tests.bench.retriever --bulk [--gateway] [--files N] [--pods N] [--large MIB] [--real]
                                    [--milvus lite|235|none]

One tenant attaches N one-paragraph files in one batch, and where asked one of MIB MiB besides. Meanwhile another one
uploads a file of one sentence, attaches it and searches until it is found, again and again. Printed are

    attached       seconds of the batch's request
    files/s        files of the batch that ended in a second; without --real the vectors cost nothing, so that this is
                   ingestion with the embedding apart
    searchable     seconds from the upload of the one-sentence file to the search that finds it

With several pods one takes requests and all work one queue. With --gateway everything is asked of a gateway in front of
it, with keys of two projects. Nothing is asked twice: an answer that is an error, a 503 above all, ends it.
"""

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.testing.serving import served

from tests.support.documents import upload
from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.embedder_service import real_embedder
from tests.support.gateway import first_keys, gateway_settings, secret_file
from tests.support.gateway_process import GatewayProcess
from tests.support.milvus import MilvusLite, MilvusServer235
from tests.support.redis_server import RedisOnDisk
from tests.support.retriever import RETRIEVER_TOKEN, RetrieverProcess
from tests.support.sdk import closing

__all__ = ["add_arguments", "measure"]

_CROWD, _QUIET = "proj_crowd", "proj_quiet"
_UPLOADS_AT_ONCE = 8
_LOOK_SECONDS = 0.05
_PATIENCE_SECONDS = 600.0
"""For one file of the quiet tenant: one that is never found ends the comparison."""
_PAUSE_SECONDS = 1.0
"""Between two files of the quiet tenant, which is to be a guest and no crowd."""

_PARAGRAPH = (
    "Note {number} of the archive. The pump of hall {number} was looked at, its seals were found dry, and a valve of "
    "the size {number} was ordered. Whoever is on duty there writes down the pressure twice a day."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of this comparison alone."""
    parser.add_argument("--files", type=int, default=2000, help="files of the batch")
    parser.add_argument("--gateway", action="store_true", help="ask a gateway in front of the retriever")
    parser.add_argument("--pods", type=int, default=1, help="retrievers that share the queue")
    parser.add_argument("--large", type=int, default=0, metavar="MIB", help="a text file of this size in the batch too")
    parser.add_argument("--real", action="store_true", help="embed with MiniLM")


def measure(arguments: argparse.Namespace) -> None:
    """Runs it and prints its figures."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        embedder = stack.enter_context(
            real_embedder(folder, texts_only=True) if arguments.real else served(FakeEmbedder(EMBEDDER_TOKEN))
        )
        pods = stack.enter_context(_retrievers(folder, embedder, arguments.milvus, arguments.pods))
        if arguments.gateway:
            crowd, quiet = stack.enter_context(_gateway(folder, pods[0]))
        else:
            crowd, quiet = pods[0].openai(_CROWD), pods[0].openai(_QUIET)
        with ThreadPoolExecutor(_UPLOADS_AT_ONCE) as threads:
            started = time.monotonic()
            files = list(
                threads.map(
                    lambda number: upload(crowd, f"{number}.txt", _PARAGRAPH.format(number=number).encode()),
                    range(arguments.files),
                )
            )
            print(f"uploaded    {len(files)} files in {time.monotonic() - started:.1f} s")
        if arguments.large:
            files.append(upload(crowd, "large.txt", _large(arguments.large * 2**20)))
        _run(crowd, quiet, files, small=arguments.files)


def _run(crowd: openai.OpenAI, quiet: openai.OpenAI, files: list[str], *, small: int) -> None:
    busy, calm = crowd.vector_stores.create(name="busy").id, quiet.vector_stores.create(name="calm").id
    started = time.monotonic()
    batch = crowd.vector_stores.file_batches.create(busy, file_ids=files)
    print(f"attached    {len(files)} files in {time.monotonic() - started:.2f} s")
    waits: list[float] = []
    for number in itertools.count():
        counts = crowd.vector_stores.file_batches.retrieve(batch.id, vector_store_id=busy).file_counts
        if counts.total - counts.in_progress >= small:
            break
        waits.append(_searchable(quiet, calm, number))
        print(f"            {counts.completed} completed, searchable in {waits[-1]:.2f} s", flush=True)
        time.sleep(_PAUSE_SECONDS)  # a guest, and no crowd
    seconds = time.monotonic() - started
    print(f"ended       {counts.completed} completed, {counts.failed} failed, {counts.cancelled} cancelled")
    print(f"files/s     {small / seconds:.1f}")
    if waits:
        print(f"searchable  median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s, of {len(waits)}")


def _searchable(sdk: openai.OpenAI, store: str, number: int) -> float:
    """Seconds from the upload of a file of one sentence until a search finds it."""
    started = time.monotonic()
    sentence = f"The secret word of room {number} is parsnip{number}."
    file = upload(sdk, f"word{number}.txt", sentence.encode())
    sdk.vector_stores.files.create(file_id=file, vector_store_id=store)
    while time.monotonic() - started < _PATIENCE_SECONDS:
        found = sdk.vector_stores.search(store, query=f"parsnip{number}", max_num_results=1)
        if found.data and found.data[0].file_id == file:
            return time.monotonic() - started
        time.sleep(_LOOK_SECONDS)  # between two looks: searches are not what is measured
    raise TimeoutError(f"file {number} was not found within {_PATIENCE_SECONDS:.0f} s")


@contextlib.contextmanager
def _gateway(folder: Path, retriever: RetrieverProcess) -> Iterator[tuple[openai.OpenAI, openai.OpenAI]]:
    """A gateway before the retriever: the SDKs of two of its projects."""
    inside = folder / "gateway"
    inside.mkdir()
    (inside / "redis").mkdir()
    redis = RedisOnDisk(inside / "redis").start()
    token = secret_file(inside, "retriever-token", RETRIEVER_TOKEN)
    settings = gateway_settings(inside, redis, retriever={"url": retriever.url, "token_file": str(token)})
    keys = first_keys(settings)
    process = GatewayProcess(inside, settings)
    try:
        process.start()
        admin = httpx.Client(base_url=f"{process.url}/v1/organization", headers=keys.headers(keys.admin_key))
        with admin:
            project = admin.post("/projects", json={"name": _QUIET}).raise_for_status().json()["id"]
            made = admin.post(f"/projects/{project}/service_accounts", json={"name": "bench"}).raise_for_status().json()

        def sdk(key: str) -> openai.OpenAI:
            return closing(openai.OpenAI(base_url=f"{process.url}/v1", api_key=key, max_retries=0, timeout=60))

        yield sdk(keys.project_key), sdk(made["api_key"]["value"])
    finally:
        process.stop()
        redis.stop()


@contextlib.contextmanager
def _retrievers(folder: Path, embedder: str, milvus: str | None, count: int) -> Iterator[list[RetrieverProcess]]:
    """Several over one object store; sealed vector stores where there is no Milvus."""
    with contextlib.ExitStack() as stack:
        uri = "http://127.0.0.1:1"
        if milvus in {"lite", "235"}:
            server = (MilvusLite if milvus == "lite" else MilvusServer235)(folder)
            server.start()
            stack.callback(server.stop)
            uri = server.uri
        blobs = (folder / "blobs").as_uri()
        pods = []
        for number in range(count):
            pod = RetrieverProcess(
                folder / f"retriever{number}",
                milvus_uri=uri,
                embedder_url=embedder,
                milvus={"uri": uri, "timeout_seconds": 30},
                blobs={"url": blobs},
                protection={"default": "standard" if milvus in {"lite", "235"} else "sealed"},
                ingestion={"parse_seconds": 120, "lease_seconds": 30},
                log={"level": "info"},
            )
            stack.callback(pod.stop)
            pods.append(pod.start())
        yield pods


def _large(size: int) -> bytes:
    """Text of so many bytes, all of it different."""
    lines = (_PARAGRAPH.format(number=number).encode() for number in itertools.count())
    parts, length = [], 0
    while length < size:
        parts.append(next(lines))
        length += len(parts[-1]) + 1
    return b"\n".join(parts)[:size]
