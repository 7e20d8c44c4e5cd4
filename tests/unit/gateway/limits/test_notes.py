"""What tells of a generation whose gateway died."""

import base64
from dataclasses import astuple
from pathlib import Path

import orjson
import pytest
from cloister_common.vault import FileRootKey, Keyring, MemoryKeyStore, VaultError, encode_context, seal
from cloister_gateway.limits.notes import Notes
from cloister_gateway.storage.layout import LIMITS
from cloister_gateway.usage import Generation, Used

BATCHED = Generation("gen_1", "proj_1", "key_1", "a model", "chat", "ann b", 1_700_000_000, batch=True)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    (tmp_path / "root").write_text("0123456789abcdef" * 4)
    return Keyring("gateway", FileRootKey(tmp_path / "root"), MemoryKeyStore())


async def test_a_note_tells_the_generation_and_what_it_counts_as(keyring: Keyring) -> None:
    notes = Notes(keyring)
    for generation in (BATCHED, Generation("gen_2", "proj_1", "key_1", "a model", "chat", "ann b", 7)):
        told, used = await Notes(keyring).read(await notes.write(generation, read=900, written=500))
        assert astuple(told) == astuple(generation)
        assert used == Used(900, 0, 500, exact=False)


async def test_a_note_says_nobodys_name_in_the_clear(keyring: Keyring) -> None:
    note = await Notes(keyring).write(BATCHED, read=900, written=500)
    for secret in ("ann", "model", "key_1"):
        assert secret not in note


async def test_notes_of_the_versions_before_open(keyring: Keyring) -> None:
    key = (await keyring.obtain("proj_1", LIMITS, "proj_1")).subkey("notes")
    stored = ["gen_1", "key_1", "a model", "chat", "ann b", 1_700_000_000, 900, 500]
    for batch in ([], [True]):
        sealed = seal(key, orjson.dumps(stored + batch), encode_context("limits-note", "proj_1"))
        told, used = await Notes(keyring).read(f"proj_1 {base64.b64encode(sealed).decode()}")
        assert (told.id, told.user, told.batch, used.prompt, used.output) == (
            "gen_1",
            "ann b",
            batch == [True],
            900,
            500,
        )


async def test_a_note_that_was_changed_is_told_from_one_that_was_written(keyring: Keyring) -> None:
    note = await Notes(keyring).write(BATCHED, read=900, written=500)
    project, _, *rest = note.split(" ")
    for wrong in (f"{note}x", " ".join([project, base64.b64encode(b"x" * 90).decode(), *rest])):
        with pytest.raises(VaultError):
            await Notes(keyring).read(wrong)


@pytest.mark.parametrize(
    "value", [["key_1", "a model", "a later kind", "ann b", True], ["key_1", "a model", "chat", "ann b", True, "more"]]
)
async def test_a_note_of_a_later_version_is_refused_as_one_that_does_not_open(
    keyring: Keyring, value: list[object]
) -> None:
    key = (await keyring.obtain("proj_1", LIMITS, "proj_1")).subkey("notes")
    sealed = seal(key, orjson.dumps(value), encode_context("limits-note", "proj_1"))
    note = f"proj_1 {base64.b64encode(sealed).decode()} gen_1 7 900 500"
    for wrong in (note, f"{note} 3", "proj_1", f"{note} x"):
        with pytest.raises(VaultError):
            await Notes(keyring).read(wrong)
