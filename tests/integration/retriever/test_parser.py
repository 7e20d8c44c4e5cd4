"""The parser's process: hostile files end with a sentence, and nothing gets out of the sandbox."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cloister_retriever.ingestion.turns import Turns
from cloister_retriever.parsing.document import UnreadableFile
from cloister_retriever.parsing.parser import Parser
from cloister_retriever.parsing.warm import ParserHost
from cloister_retriever.settings import IngestionSettings

from tests.support.documents import pdf
from tests.support.models import minilm_folder
from tests.support.waiting import until
from tests.support.workbooks import Cell, excel_97, excel_binary

MIB = 1024 * 1024


HOST = ParserHost()


@pytest.fixture(scope="module", autouse=True)
def host() -> Iterator[None]:
    """One warm process for all tests here: to start it takes most of a second."""
    yield
    HOST.close()


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for first in range(0, len(data), 65_536):
        yield data[first : first + 65_536]


def parser(**changes: Any) -> Parser:
    return Parser(IngestionSettings(tokenizer_path=minilm_folder(), **{"parse_seconds": 20, **changes}), HOST)


async def refusal(content: bytes, name: str = "a.txt", **changes: Any) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as raised:
        await parser(**changes).parse(chunks(content), name=name, max_tokens=200, overlap_tokens=40)
    assert raised.value.message.endswith(".")
    return raised.value


@pytest.mark.parametrize("make", [excel_binary, excel_97])
async def test_a_spreadsheet_is_read_within_the_sandbox(make: Callable[[list[Cell]], bytes]) -> None:
    content = make([Cell("A1", "share"), Cell("B1", 0.5, "0%"), Cell("C1", 45123, "dd.mm.yyyy")])
    parsed = await parser().parse(chunks(content), name="a.xls", max_tokens=200, overlap_tokens=0)
    assert parsed.text == "Sheet\n\nshare | 50% | 16.07.2023"


async def test_a_pdf_has_its_pages() -> None:
    told: list[tuple[int, int]] = []
    parsed = await parser().parse(
        chunks(pdf(["one", "", "three"])),
        name="x",
        max_tokens=200,
        overlap_tokens=0,
        on_page=lambda done, total: told.append((done, total)),
    )
    assert (told[0], told[-1]) == ((0, 3), (3, 3)), "how many have been read"
    assert [(chunk.page, parsed.text[chunk.start : chunk.end]) for chunk in parsed.chunks] == [(1, "one"), (3, "three")]


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "invalid_file", "empty"),
        (os.urandom(50_000), "unsupported_file", "Supported"),
        (b"PK\x03\x04" + os.urandom(1000), "unsupported_file", "ZIP"),
        (pdf(["secret"], password="pw"), "invalid_file", "encrypted"),
        (pdf(["text"])[:400], "invalid_file", "PDF"),
        (b"%PDF-1.7\n" + os.urandom(5000), "invalid_file", "damaged"),
        (pdf([""]), "invalid_file", "No text"),
        (b" \n\t" * 100, "invalid_file", "empty"),
    ],
    ids=["empty", "garbage", "zip", "encrypted", "cut", "fake", "blank", "spaces"],
)
async def test_an_unreadable_file_is_a_sentence(content: bytes, code: str, words: str) -> None:
    error = await refusal(content)
    assert error.code == code
    assert words in error.message


async def test_too_much_text_is_refused() -> None:
    error = await refusal(b"word " * 100_000, max_text_bytes=100_000)
    assert "100000 bytes of text" in error.message


async def test_a_file_over_the_memory_limit_fails_alone() -> None:
    error = await refusal(os.urandom(16) * (20 * MIB), parse_memory_bytes=256 * MIB, max_text_bytes=1024 * MIB)
    assert error.code in {"invalid_file", "unsupported_file"}
    parsed = await parser().parse(chunks(b"the next file"), name="b.txt", max_tokens=200, overlap_tokens=0)
    assert parsed.text == "the next file"


async def test_a_file_that_takes_too_long_is_given_up() -> None:
    error = await refusal(b"word " * 2_000_000, parse_seconds=2)
    assert error.code == "invalid_file"


async def test_a_file_that_stands_aside_is_stopped_and_goes_on_with_the_time_it_had() -> None:
    await until(lambda: not children())  # those of other tests are gone
    turns = Turns(1, 0, asyncio.Event())
    turn = turns.begin("a")
    slow = b"word " * 400_000
    reading = asyncio.create_task(
        parser(parse_seconds=120).parse(chunks(slow), name="a.txt", max_tokens=200, overlap_tokens=0, turn=turn)
    )
    try:
        child = await until(lambda: next(iter(children()), None))
        await until(lambda: processor_ticks(child) > 50)  # it is reading the file by now, and not only starting
        turns.make_way(["b"])
        await until(lambda: state_of(child) == "T")
        assert turns.is_free
        ticks = processor_ticks(child)
        turns.resume(turn)
        await until(lambda: processor_ticks(child) > ticks)
        parsed = await reading
    finally:
        reading.cancel()
    assert len(parsed.text) == len(slow)


def started_by(process: int) -> list[int]:
    """The processes that ``process`` has started, of the parser's kind."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for path in Path(f"/proc/{process}/task").glob("*/children"):
            found += [int(number) for number in path.read_text().split() if is_parsers(int(number))]
    return found


def is_parsers(process: int) -> bool:
    """Whether it is one of the parser's kind, and there: it may end while it is looked at."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return b"parsing.host" in Path(f"/proc/{process}/cmdline").read_bytes()
    return False


def children() -> list[int]:
    """The processes that read files: those that were forked from one that this one has started."""
    return [one for host in started_by(os.getpid()) for one in started_by(host)]


async def read(one: Parser, content: bytes) -> str:
    return (await one.parse(chunks(content), name="a.txt", max_tokens=200, overlap_tokens=0)).text


async def test_files_are_read_side_by_side_each_in_a_process_of_its_own() -> None:
    one = parser()
    texts = await asyncio.gather(*(read(one, b"note number %d" % number) for number in range(12)))
    assert texts == [f"note number {number}" for number in range(12)]
    await until(lambda: not children())


async def test_files_are_read_again_when_the_process_that_they_are_forked_from_has_died() -> None:
    one = parser()
    await read(one, b"before")
    host = HOST._process
    assert host is not None
    host.kill()
    host.wait()
    assert await read(one, b"after") == "after"


async def test_nothing_is_left_running_when_a_file_is_given_up_or_the_service_ends() -> None:
    one = parser(parse_seconds=120)
    reading = asyncio.create_task(read(one, b"word " * 400_000))
    await until(children)
    reading.cancel()
    await asyncio.wait({reading})
    await until(lambda: not children())
    host = HOST._process
    assert host is not None
    HOST.close()
    assert host.returncode is not None


def stat_of(process: int) -> list[str]:
    """What `proc(5)` says of a process after its name: the state first."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def state_of(process: int) -> str:
    return stat_of(process)[0]


def processor_ticks(process: int) -> int:
    return int(stat_of(process)[11])


@pytest.mark.parametrize(
    ("attempt", "refused"),
    [
        ("open('/etc/hostname').read()", "PermissionError"),
        ("open('/proc/self/mem', 'rb')", "PermissionError"),
        ("open('/tmp/cloister-escape', 'w')", "PermissionError"),
        ("__import__('socket').socket()", "PermissionError"),
        ("__import__('os').execv('/bin/true', ['true'])", "PermissionError"),
        ("__import__('os').rename('/tmp/a', '/tmp/b')", "PermissionError"),
        ("__import__('os').truncate(victim, 0)", "PermissionError"),
        ("__import__('os').chmod(victim, 0o777)", "PermissionError"),
        ("__import__('os').link(victim, victim + '-2')", "PermissionError"),
        ("__import__('os').symlink(victim, victim + '-3')", "PermissionError"),
        ("__import__('os').stat(victim)", "PermissionError"),
        ("__import__('os').fork()", "PermissionError"),
        ("__import__('os').kill(__import__('os').getppid(), 0)", "PermissionError"),
        ("__import__('os').setpriority(0, __import__('os').getppid(), 9)", "PermissionError"),
        ("bytearray(2 * 1024 ** 3)", "MemoryError"),
        ("thread = __import__('threading').Thread(target=int); thread.start(); thread.join()", "allowed"),
    ],
)
def test_the_sandbox_refuses(attempt: str, refused: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    program = f"""
import json, socket, os, threading
from cloister_retriever.parsing.sandbox import confine
victim = {str(victim)!r}
confined = confine(memory_bytes=1024 ** 3, cpu_seconds=5)
try:
    {attempt}
    got = "allowed"
except BaseException as error:
    got = type(error).__name__
print(json.dumps([confined, got]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout) == [True, refused]
    assert victim.read_text() == "precious"


async def test_a_file_of_nothing_but_headings_is_refused_before_it_fills_the_index() -> None:
    error = await refusal(b"# a\nb\n" * 120_000, "a.md", parse_seconds=60)
    assert "more than 100000 passages" in error.message


@pytest.mark.parametrize(
    "answer",
    [b"no JSON", b"[" * 100_000, b"{}", b'{"confined": true, "text": 1}', b'{"confined": true, "chunks": [[1]]}'],
)
def test_an_answer_that_is_no_answer_is_the_files_fault(answer: bytes) -> None:
    with pytest.raises(UnreadableFile):
        parser()._result(answer)


def test_processes_can_be_started_while_vectors_are_rotated() -> None:
    """As a retriever does that reads one file and indexes another. Without the precaution it stood still for ever."""
    program = """
from cloister_retriever.__main__ import keep_arithmetic_in_one_thread
keep_arithmetic_in_one_thread()
import asyncio, uvloop
from cloister_retriever.index.rotation import rotation_matrix

async def rotate():
    for number in range(30):
        await asyncio.to_thread(rotation_matrix, bytes([number]) * 32, 384)

async def start(rotating):
    while not rotating.done():
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()

async def main():
    rotating = asyncio.create_task(rotate())
    await start(rotating)
    await rotating

uvloop.run(main())
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
