"""What is made from the settings classes and the chart's values is as it would be made now."""

from pathlib import Path

import pytest
from cloister_common.settings import ClientTls, ServiceSettings, Settings
from pydantic import Field

from deploy.docs.__main__ import DOCUMENTS, main
from deploy.docs.settings import Setting, Undescribed, described, settings_of
from deploy.docs.tables import CLASSES

ROOT = Path(__file__).parents[3]


class Store(Settings):
    """Where things are.

    And more of it.
    """

    url: str
    tls: ClientTls = ClientTls()
    max_bytes: int | None = Field(2048, ge=1024, le=3 * 1024 * 1024, description="Size of a | thing.")


class Example(ServiceSettings):
    stores: dict[str, Store] = Field(description="By name.")
    speed: float = Field(0.5, gt=0, description="How fast.")
    quick: bool = Field(True, description="Whether at once.")


def test_every_setting_is_described() -> None:
    missing = {
        f"{name}: {item.path}" for name, cls in CLASSES.items() for item in settings_of(cls) if not item.sentence
    }
    assert missing == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_is_what_would_be_made(document: Path) -> None:
    assert document.read_text() == DOCUMENTS[document](), "run make docs"


def test_only_what_differs_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same, stale = tmp_path / "same.md", tmp_path / "stale.md"
    for path in (same, stale):
        path.write_text("old")
    written = same.stat().st_mtime_ns
    monkeypatch.setattr("deploy.docs.__main__.DOCUMENTS", {same: lambda: "old", stale: lambda: "new"})
    assert main() == 0
    assert (same.read_text(), stale.read_text(), same.stat().st_mtime_ns) == ("old", "new", written)


def test_settings_are_listed_with_what_they_take_their_defaults_and_sentences() -> None:
    assert settings_of(Example) == [
        Setting("stores", "", "required", "By name.", section=True),
        Setting("stores.<name>.url", "text", "required", "", section=False),
        Setting("stores.<name>.tls", "", "", "How this process checks the servers it calls.", section=True),
        Setting(
            "stores.<name>.tls.ca_file", "path", "none", "CA bundle to trust instead of the system's.", section=False
        ),
        Setting("stores.<name>.max_bytes", "integer from 1 KiB to 3 MiB", "2 KiB", "Size of a | thing.", section=False),
        Setting("speed", "number over 0", "0.5", "How fast.", section=False),
        Setting("quick", "`true`, `false`", "`true`", "Whether at once.", section=False),
    ]


def test_setting_without_a_sentence_is_named() -> None:
    with pytest.raises(Undescribed, match=r"Example: .*: stores\.<name>\.url$"):
        described(Example)
