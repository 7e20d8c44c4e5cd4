"""Which models there are, while the gateway runs, and which pods they have."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from cloister_common.errors import NotFound
from cloister_common.supervisor import Supervisor
from cloister_gateway.model_settings import LlmSettings, ModelSettings
from cloister_gateway.models import Catalog, ChatModel
from cloister_gateway.models.catalog import Pool, Slices, models_of
from cloister_gateway.models.fleet import Fleet
from pydantic import ValidationError

SERVICE = "https://model.chat.svc.cluster.local:8083"


class Names:
    """A resolver that says what the test sets; None: it is away."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] | None = addresses
        self.asked: list[str] = []
        self.again = asyncio.Event()

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        self.again.set()
        if self.addresses is None:
            raise OSError("the resolver is away")
        return self.addresses


def model(name: str = "m", **more: object) -> ChatModel:
    return ChatModel(name, 2048, 512, **more)  # type: ignore[arg-type] # whatever the test names


def fleet(catalog: Catalog, names: Names, *, seconds: float = 60) -> Fleet:
    return Fleet(catalog, LlmSettings(token_file=Path("x"), look_up_seconds=seconds), names)


def urls(pods: Fleet, name: str = "m") -> list[str]:
    return [pod.url for pod in pods[name].all]


def test_unknown_model_is_one_error_with_the_mend() -> None:
    catalog = Catalog([model()])
    assert catalog.get("m").name == "m"
    with pytest.raises(NotFound) as unknown:
        catalog.get("other")
    assert (unknown.value.error_code, unknown.value.param) == ("model_not_found", "model")
    assert "GET /v1/models" in unknown.value.message


def test_a_model_of_some_projects_does_not_exist_for_others() -> None:
    catalog = Catalog([model("own", projects=frozenset({"proj_a"})), model("all")])
    assert catalog.served("own", "proj_a").name == "own"
    assert catalog.served("all", "proj_b").name == "all"
    messages = []
    for name in ("own", "none"):
        with pytest.raises(NotFound) as unknown:
            catalog.served(name, "proj_b")
        messages.append(unknown.value.message.replace(name, "X"))
    assert messages[0] == messages[1]


def test_models_that_stay_as_they_are_keep_when_they_began() -> None:
    catalog = Catalog([model("a", created=1), model("b", created=1)])
    catalog.replace([model("a", created=2), model("b", created=2, temperature=0.5)])
    assert [entry.created for entry in catalog] == [1, 2]


def test_replaced_models_are_seen_by_who_listens() -> None:
    catalog = Catalog([model("a")])
    seen: list[list[str]] = []
    catalog.subscribe(lambda: seen.append([entry.name for entry in catalog]))
    catalog.replace([model("b"), model("c")])
    assert seen == [["b", "c"]]
    assert catalog.find("a") is None
    with pytest.raises(ValueError, match="twice"):
        catalog.replace([model("d"), model("d")])
    assert [entry.name for entry in catalog] == ["b", "c"]


def test_a_name_that_both_have_is_the_settings_model_and_each_part_is_replaced_alone() -> None:
    catalog = Catalog([model("a"), model("both", temperature=0.5)])
    seen: list[list[str]] = []
    catalog.subscribe(lambda: seen.append([entry.name for entry in catalog]))
    entered = [model("both", temperature=0.9, origin="administration"), model("c", origin="administration")]
    assert catalog.replace(entered, origin="administration")
    assert not catalog.replace(entered, origin="administration")
    assert [(entry.name, entry.temperature) for entry in catalog] == [("a", 1.0), ("both", 0.5), ("c", 1.0)]
    assert catalog.replace([model("a")])
    assert [(entry.name, entry.temperature) for entry in catalog] == [("a", 1.0), ("both", 0.9), ("c", 1.0)]
    assert seen == [["a", "both", "c"]] * 2


def test_settings_say_what_a_model_can_and_where_its_pods_are() -> None:
    slices = {"namespace": "chat", "labels": {"b": "2", "a/x": "1"}, "scheme": "https", "server_name": "llm"}
    named = {
        "kube": {"context_tokens": 2048, "kubernetes": slices, "tools": False, "reasoning": False},
        "pool": {"context_tokens": 2048, "pool": {"url": "http://pool", "background": "night"}},
    }
    kube, pool = models_of({name: ModelSettings.model_validate(one) for name, one in named.items()})
    assert kube.kubernetes == Slices("chat", "a/x=1,b=2", None, "https", "llm")
    assert kube.capabilities == {"chat"}
    assert pool.pool == Pool("http://pool", "interactive", "night")
    assert pool.capabilities == {"chat", "reasoning", "tools"}


@pytest.mark.parametrize("labels", [{}, {"a": "b,c=d"}, {"a=b": "c"}, {"a": "b c"}])
def test_labels_are_labels_and_no_selectors(labels: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ModelSettings.model_validate({"context_tokens": 2048, "kubernetes": {"namespace": "chat", "labels": labels}})


def test_answers_are_bounded_by_the_context_and_by_default() -> None:
    assert [model().answer_tokens(asked) for asked in (None, 7, 9_999)] == [512, 7, 2048]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"urls": []},
        {"urls": ["http://a"], "service": "http://b"},
        {"service": "http://b", "pool": {"url": "http://c"}},
        {"urls": ["http://a"], "kubernetes": {"namespace": "chat", "labels": {"a": "b"}}},
    ],
)
def test_pods_are_found_in_exactly_one_way(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either urls"):
        ModelSettings.model_validate({"context_tokens": 2048, **more})


async def test_each_address_of_a_service_is_a_pod() -> None:
    names = Names("10.0.0.1", "10.0.0.2", "fd00::7")
    pods = fleet(Catalog([model(service=SERVICE)]), names)
    await pods.look_up()
    assert urls(pods) == ["https://10.0.0.1:8083", "https://10.0.0.2:8083", "https://[fd00::7]:8083"]
    assert {pod.server_name for pod in pods["m"].all} == {"model.chat.svc.cluster.local"} == set(names.asked)


async def test_pods_that_stay_keep_their_load_and_health() -> None:
    names = Names("10.0.0.1", "10.0.0.2")
    pods = fleet(Catalog([model(service=SERVICE)]), names)
    await pods.look_up()
    kept = pods["m"].all[1]
    kept.running = 3
    names.addresses = ["10.0.0.2", "10.0.0.3"]
    await pods.look_up()
    assert pods["m"].all[0] is kept
    assert urls(pods) == ["https://10.0.0.2:8083", "https://10.0.0.3:8083"]


async def test_resolver_that_is_away_takes_no_pod_away() -> None:
    names = Names("10.0.0.1")
    pods = fleet(Catalog([model(service=SERVICE)]), names)
    await pods.look_up()
    names.addresses = None
    await pods.look_up()
    assert urls(pods) == ["https://10.0.0.1:8083"]


async def test_new_model_is_looked_up_at_once_and_the_rest_go_on_being_looked_up() -> None:
    names, supervisor = Names("10.0.0.1"), Supervisor()
    catalog = Catalog([model("old", urls=("http://a",))])
    pods = fleet(catalog, names)
    pods.start(supervisor)
    async with asyncio.timeout(60):
        while not names.asked:
            catalog.replace([model("new", service=SERVICE)])
            await asyncio.sleep(0.01)
        while urls(pods, "new") != ["https://10.0.0.1:8083"]:
            await asyncio.sleep(0.01)
    assert urls(pods, "old") == ["http://a"], "calls under way end there"
    await supervisor.close()


async def test_names_are_looked_up_again_and_again() -> None:
    names, supervisor = Names("10.0.0.1"), Supervisor()
    pods = fleet(Catalog([model(service=SERVICE)]), names, seconds=0.01)
    pods.start(supervisor)
    async with asyncio.timeout(60):
        await names.again.wait()
        names.addresses = ["10.0.0.9"]
        while urls(pods) != ["https://10.0.0.9:8083"]:
            await asyncio.sleep(0.01)
    await supervisor.close()
