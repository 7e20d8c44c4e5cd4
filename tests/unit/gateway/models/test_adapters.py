"""Adapters as models of the catalog, and which of their versions a conversation gets."""

from collections import Counter

import pytest
from cloister_common.errors import NotFound
from cloister_gateway.models import Catalog, ChatModel
from cloister_gateway.models.adapters.records import AdapterRecord, Version, chosen
from cloister_gateway.models.fleet import Fleet

from tests.unit.gateway.models.test_catalog import Names, fleet, model

OLD, NEW = (Version(adapter="a", digest=f"sha256:{digit * 64}", folder=digit) for digit in "12")


def adapter(name: str = "a", base: str = "m", *versions: Version) -> AdapterRecord:
    live = versions or (OLD.model_copy(update={"share": 100}),)
    return AdapterRecord(name=name, base_model=base, projects=("proj_a",), versions=live, created_at=7)


def shared(old: int, new: int) -> tuple[Version, Version]:
    return OLD.model_copy(update={"share": old}), NEW.model_copy(update={"share": new})


def test_an_adapter_is_a_model_with_what_its_base_has_for_projects_of_its_own() -> None:
    catalog = Catalog([model("m", temperature=0.5, instructions="Be kind.")])
    catalog.adapt([adapter()])
    found = catalog.served("a", "proj_a")
    assert (found.base, found.created, found.temperature, found.instructions) == ("m", 7, 0.5, "Be kind.")
    with pytest.raises(NotFound):
        catalog.served("a", "proj_b")
    assert [entry.name for entry in catalog] == ["m", "a"]
    assert [entry.name for entry in catalog.bases()] == ["m"]
    catalog.replace([model("m", temperature=0.7)])
    assert catalog.get("a").temperature == 0.7, "also what it has from now on"


def test_an_adapter_without_base_or_under_a_models_name_is_no_model() -> None:
    catalog = Catalog([model("m"), model("taken")])
    catalog.adapt([adapter("taken"), adapter("lost", "none"), adapter("loading", "m", OLD)])
    assert [(entry.name, entry.base) for entry in catalog] == [("m", None), ("taken", None)]
    catalog.replace([model("m"), model("none")])
    assert [(entry.name, entry.base) for entry in catalog][2:] == [("taken", "m"), ("lost", "none")]


def test_a_removed_adapter_is_there_for_what_was_asked_of_it_and_for_nobody_else() -> None:
    catalog = Catalog([model("m")])
    catalog.adapt([adapter()])
    catalog.adapt([])
    assert catalog.get("a").versions[0].digest == OLD.digest
    assert catalog.find("a") is None
    with pytest.raises(NotFound):
        catalog.served("a", "proj_a")


def test_another_version_is_another_fingerprint() -> None:
    catalog = Catalog([model("m")])
    prints = []
    for versions in (shared(100, 0), shared(50, 50), shared(0, 100)):
        catalog.adapt([adapter("a", "m", *versions)])
        prints.append(catalog.get("a").fingerprint)
    assert len({*prints, catalog.get("m").fingerprint}) == 4


def test_an_adapter_has_its_bases_pods() -> None:
    catalog = Catalog([model("m", urls=("http://a", "http://b"))])
    pods: Fleet = fleet(catalog, Names())
    catalog.adapt([adapter()])
    assert pods["a"] is pods["m"]
    assert pods.pods() == [pods["m"]]


@pytest.mark.parametrize("share", [1, 30, 99])
def test_conversations_are_dealt_by_share_and_stay_as_it_grows(share: int) -> None:
    keys = [f"conv_{number}" for number in range(2000)]
    first = {key: chosen(shared(100 - share, share), key) for key in keys}
    assert first == {key: chosen(shared(100 - share, share), key) for key in keys}
    count = Counter(version.digest for version in first.values())[NEW.digest]
    assert abs(count - 20 * share) < 100
    grown = {key: chosen(shared(99 - share, share + 1), key) for key in keys}
    assert all(grown[key].digest == NEW.digest for key in keys if first[key].digest == NEW.digest)


def test_who_has_no_conversation_is_dealt_by_chance() -> None:
    assert {chosen(shared(50, 50), None).digest for _ in range(200)} == {OLD.digest, NEW.digest}


def test_a_version_is_called_by_its_digest_at_the_pods() -> None:
    assert OLD.served != NEW.served
    assert OLD.served == f"a@{OLD.digest}"
    assert ChatModel("m", 2048, 512).versions == ()
