"""What is relied on of Milvus itself: literals, TLS, passwords, and upserts."""

import random
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from cloister_common.errors import Conflict, Unavailable
from cloister_retriever.index.collection import PassageCollection
from cloister_retriever.index.connection import MilvusConnection
from cloister_retriever.index.protocol import Entry, Found, Question, SealedPassage
from cloister_retriever.index.quoting import equals, one_of
from cloister_retriever.settings import MilvusSettings
from pymilvus import DataType, MilvusClient

from tests.support.certificates import certificate_for
from tests.support.milvus import MilvusServer235, connected

NASTY = [
    'a" or store_id != "',
    "a' or ''='",
    "\\",
    '\\"',
    "back\\slash\\",
    "%",
    "_",
    "line\nbreak",
    "tab\t",
    "{placeholder}",
    "ünïcödé",
    "日本語",
    "😀",
    "\u202e",
    "\x7f",
    "null",
    "",
    "a",
    "a ",
]
DIMENSIONS = 8


def row(number: int, store: str = "vs_1", attachment: str = "vsf_1") -> Entry:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[number % DIMENSIONS] = 1
    passage = SealedPassage(f"psg_{store}_{attachment}_{number}", store, attachment, "file-1", number, "v", "p")
    return Entry(passage, vector.tolist(), {1 + number: 1.0, 1_000: 0.5})


def ids_of(rows: Sequence[Entry], *of: str) -> list[str]:
    """The ids of a store's rows, or of one attachment's."""
    return [one.passage.id for one in rows if (one.passage.store_id, one.passage.attachment_id)[: len(of)] == of]


@pytest.mark.parametrize("milvus", ["milvus_lite", "milvus_235"])
def test_a_quoted_value_finds_its_row_and_no_other(request: pytest.FixtureRequest, milvus: str) -> None:
    source = random.Random(7)
    alphabet = [*"ab\"'\\\n\t {}%_ =<>()[]&|!", "ß", "日", "😀"]
    values = list(dict.fromkeys([*NASTY, *("".join(source.choices(alphabet, k=12)) for _ in range(60))]))
    client = connected(request.getfixturevalue(milvus).uri)
    name = f"quoting_{secrets.token_hex(4)}"
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("value", DataType.VARCHAR, max_length=256)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("dense", index_type="FLAT", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=index)
    try:
        client.load_collection(name)
        rows = [{"id": number, "value": value, "dense": [1.0, 0.0]} for number, value in enumerate(values)]
        client.insert(name, rows)
        count = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
        assert count[0]["count(*)"] == len(values)
        for number, value in enumerate(values):
            found = client.query(name, filter=equals("value", value), output_fields=["id"], consistency_level="Bounded")
            assert [one["id"] for one in found] == [number], repr(value)
        some = values[::3]
        found = client.query(name, filter=one_of("value", some), output_fields=["value"], consistency_level="Strong")
        assert sorted(one["value"] for one in found) == sorted(some)
    finally:
        client.drop_collection(name)
        client.close()


@pytest.mark.parametrize("milvus", ["milvus_lite", "milvus_235"])
async def test_upserts_replace_deletions_are_exact_and_another_dimension_is_a_conflict(
    request: pytest.FixtureRequest, milvus: str
) -> None:
    connection = MilvusConnection(MilvusSettings(uri=request.getfixturevalue(milvus).uri))
    model = f"model-{secrets.token_hex(4)}"
    collection = PassageCollection(connection, model)
    try:
        rows = [row(number) for number in range(300)] + [row(number, attachment="vsf_2") for number in range(5)]
        rows += [row(number, store="vs_2") for number in range(7)]

        async def count(*of: str) -> int:
            return await collection.count(of[0], ids_of(rows, *of))

        assert await count("vs_1") == 0
        await collection.delete("vs_1")
        for _ in range(2):
            await collection.upsert(rows)
        assert [await count(*of) for of in (("vs_1",), ("vs_1", "vsf_1"), ("vs_2",))] == [305, 300, 7]
        await collection.delete("vs_1", "vsf_1", from_position=290)
        assert await count("vs_1", "vsf_1") == 290
        await collection.delete("vs_1", "vsf_2")
        assert await count("vs_1") == 290
        query = np.eye(DIMENSIONS, dtype=np.float32)[3]
        found = await collection.search("vs_2", Question(query, None), limit=50, attachment_ids=["vsf_1"], fresh=True)
        assert [one.passage.position for one in found.hits][:1] == [3]
        assert len(found.hits) == 7
        assert found.is_all
        named = [one.passage.id for one in rows if one.passage.store_id == "vs_2"][:3]
        foreign = ids_of(rows, "vs_1", "vsf_1")[:1]
        found = await collection.search(
            "vs_2", Question(None, None, [*named, *foreign, "psg_none"]), limit=1, attachment_ids=None, fresh=True
        )
        assert sorted(one.passage.id for one in found.hits) == sorted(named)
        assert not (
            await collection.search("vs_2", Question(query, None), limit=7, attachment_ids=None, fresh=True)
        ).is_all
        nothing = await collection.search("vs_2", Question(query, None), limit=50, attachment_ids=["vsf_2"], fresh=True)
        assert nothing == Found([], is_all=True)
        await collection.delete("vs_1")
        assert [await count("vs_1"), await count("vs_2")] == [0, 7]
        for late in (collection, PassageCollection(connection, model)):
            with pytest.raises(Conflict, match="4 numbers"):
                await late.upsert([row(0)._replace(dense=[1.0, 0.0, 0.0, 0.0])])
            with pytest.raises(Conflict, match="4 numbers"):
                await late.search("vs_2", Question(query[:4], None), limit=5, attachment_ids=None, fresh=True)
    finally:
        await connection.run(lambda client: client.drop_alias(collection.alias))
        await connection.run(lambda client: client.drop_collection(f"{collection.alias}_v1"))
        await connection.close()


@pytest.mark.parametrize("step", ["create_alias", "create_index", "load_collection"])
@pytest.mark.parametrize("milvus", ["milvus_lite", "milvus_235"])
async def test_a_collection_that_was_half_made_is_completed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, milvus: str, step: str
) -> None:
    class DiedError(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise DiedError

    connection = MilvusConnection(MilvusSettings(uri=request.getfixturevalue(milvus).uri))
    model = f"model-{secrets.token_hex(4)}"
    try:
        with monkeypatch.context() as patch:
            patch.setattr(MilvusClient, step, die)
            with pytest.raises(DiedError):
                await PassageCollection(connection, model).upsert([row(0)])
        collection = PassageCollection(connection, model)
        await collection.upsert([row(0), row(1)])
        assert await collection.count("vs_1", ids_of([row(0), row(1), row(2)])) == 2
        found = await collection.search(
            "vs_1", Question(np.eye(DIMENSIONS, dtype=np.float32)[1], None), limit=1, attachment_ids=None, fresh=True
        )
        assert [one.passage.position for one in found.hits] == [1]
    finally:
        await connection.run(lambda client: client.drop_alias(collection.alias))
        await connection.run(lambda client: client.drop_collection(f"{collection.alias}_v1"))
        await connection.close()


async def test_a_real_server_is_reached_over_tls_with_a_password(tmp_path: Path) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    folder = tmp_path / "milvus"
    folder.mkdir()
    milvus = MilvusServer235(
        folder,
        tls_mode=1,
        server_pem_path=str(certificate),
        server_key_path=str(key),
        authorization_enabled=True,
    )
    milvus.start()
    try:
        password = tmp_path / "password"
        password.write_text("Milvus")
        uri = milvus.uri.replace("http:", "https:")
        good: dict[str, object] = {
            "uri": uri,
            "user": "root",
            "password_file": password,
            "tls": {"ca_file": certificate},
        }
        await _answers(good)
        other, _ = certificate_for("127.0.0.1", tmp_path / "other")
        bad_ones: list[dict[str, object]] = [
            {**good, "tls": {"ca_file": other}},
            {"uri": uri, "tls": {"ca_file": certificate}},
            {**good, "uri": milvus.uri},
        ]
        for bad in bad_ones:
            with pytest.raises(Unavailable):
                await _answers(bad)
        password.write_text("wrong-password")
        with pytest.raises(Unavailable):
            await _answers(good)
    finally:
        milvus.stop()


async def _answers(settings: dict[str, object]) -> None:
    """Returns if a collection can be asked for with these settings."""
    connection = MilvusConnection(MilvusSettings.model_validate({**settings, "timeout_seconds": 5}))
    try:
        await connection.run(lambda client: client.has_collection("any", timeout=5))
    finally:
        await connection.close()
