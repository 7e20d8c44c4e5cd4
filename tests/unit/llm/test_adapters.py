"""Adapters of a pod: what is loaded is what was named, fits, and stays as long as somebody reads its answer."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloister_common.errors import InvalidRequest, Unavailable
from cloister_llm.adapters.folder import copy_of, digest_of
from cloister_llm.adapters.service import LOAD_ADAPTER, UNLOAD_ADAPTER
from cloister_llm.adapters.sources import Volume
from cloister_llm.guard.load import LOAD_PATH
from cloister_llm.guard.middleware import Guard
from cloister_llm.settings import LlmSettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.support.waiting import until
from tests.unit.llm.guarded import TOKEN, USER, lifespan

LAYER = "model.layers.0.self_attn"


class Engine:
    """Where the guard has vLLM load what it checked."""

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.refuses = ""

    async def load(self, name: str, path: str) -> None:
        if self.refuses:
            raise InvalidRequest(self.refuses, param="folder", code="adapter_unfit")
        self.loaded[name] = path

    async def unload(self, name: str) -> None:
        del self.loaded[name]


def write_tensors(file: Path, shapes: dict[str, tuple[int, int]]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for name, (rows, columns) in shapes.items():
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [end, end + 4 * rows * columns]}
        end += 4 * rows * columns
    raw = json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(end))


def halves(
    module: str = f"{LAYER}.q_proj", *, rank: int = 8, inner: int = 64, outer: int = 32
) -> dict[str, tuple[int, int]]:
    name = f"base_model.model.{module}"
    return {f"{name}.lora_A.weight": (rank, inner), f"{name}.lora_B.weight": (outer, rank)}


def write_adapter(folder: Path, shapes: dict[str, tuple[int, int]] | None = None, **config: Any) -> str:
    """An adapter for `model`; its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    write_tensors(folder / "adapter_model.safetensors", shapes or halves())
    return digest_of(folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(make_settings: Callable[..., LlmSettings], root: Path, tmp_path: Path) -> LlmSettings:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    write_tensors(model / "model.safetensors", {f"{LAYER}.q_proj.weight": (32, 64), "lm_head.weight": (100, 64)})
    return make_settings(lora={"folder": root, "slots": 2, "rank": 16})


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def may_answer() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
async def guard(
    settings: LlmSettings, engine: Engine, may_answer: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> Guard:
    """A guard that has started, before a model that answers when it may."""

    async def answer(request: Request) -> JSONResponse:
        await may_answer.wait()
        return JSONResponse({"model": (await request.json())["model"]})

    app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
    guard = Guard(app, settings, prepare=lambda *_: None, loras=lambda _: engine)
    monkeypatch.setattr(guard.drain, "on_signals", lambda stop: None)
    assert await lifespan(guard) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    return guard


@pytest.fixture
async def client(guard: Guard) -> Any:
    async def inside(scope: Any, receive: Any, send: Any) -> None:
        # As the server's application does it, outside of its middleware.
        await guard({**scope, "app": guard.app}, receive, send)

    transport = httpx.ASGITransport(inside)
    async with httpx.AsyncClient(transport=transport, base_url="http://llm", headers=TOKEN) as client:
        yield client


async def load(client: httpx.AsyncClient, digest: str, folder: str = "a", name: str = "leave") -> httpx.Response:
    body = {"name": f"{name}@{digest}", "folder": folder, "digest": digest}
    return await client.post(LOAD_ADAPTER, json=body)


async def ask(client: httpx.AsyncClient, model: str) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": model, "messages": [USER]})


def test_the_digest_is_what_two_common_commands_print(root: Path) -> None:
    digest = write_adapter(root / "a")
    sums = "".join(
        f"{hashlib.sha256((root / 'a' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("adapter_config.json", "adapter_model.safetensors")
    )
    assert digest == f"sha256:{hashlib.sha256(sums.encode()).hexdigest()}"


async def test_an_adapter_answers_once_it_is_loaded_and_loading_again_changes_nothing(
    client: httpx.AsyncClient, engine: Engine, root: Path
) -> None:
    digest = write_adapter(root / "a")
    early = await ask(client, f"leave@{digest}")
    assert (early.status_code, early.json()["error"]["code"]) == (404, "adapter_not_loaded")
    for _ in range(2):
        assert (await load(client, digest)).json() == {"adapters": [f"leave@{digest}"]}
    assert (await ask(client, f"leave@{digest}")).json() == {"model": f"leave@{digest}"}
    assert (await client.get(LOAD_PATH)).json()["adapters"] == [f"leave@{digest}"]
    assert list(engine.loaded) == [f"leave@{digest}"]


async def test_what_is_loaded_is_the_copy_whose_digest_was_taken(
    client: httpx.AsyncClient, engine: Engine, root: Path, settings: LlmSettings
) -> None:
    digest = write_adapter(root / "a")
    await load(client, digest)
    (path,) = map(Path, engine.loaded.values())
    assert path.is_relative_to(settings.engine.cache_dir)
    (root / "a" / "adapter_model.safetensors").write_bytes(b"another")
    assert digest_of(path) == digest
    assert sorted(file.name for file in path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


async def test_another_digest_is_refused_and_leaves_nothing(
    client: httpx.AsyncClient, engine: Engine, root: Path, settings: LlmSettings
) -> None:
    digest = write_adapter(root / "a")
    other = f"sha256:{'0' * 64}"
    refused = await load(client, other)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "digest_mismatch")
    assert digest in refused.json()["error"]["message"]
    assert engine.loaded == {}
    assert list((settings.engine.cache_dir / "adapters").iterdir()) == []


@pytest.mark.parametrize("folder", ["..", "../model", "/etc", "a/../..", "out", "", ".", "none", "a\0"])
async def test_folders_outside_are_refused(
    client: httpx.AsyncClient, root: Path, tmp_path: Path, engine: Engine, folder: str
) -> None:
    digest = write_adapter(tmp_path / "outside")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "a").mkdir()
    assert (await load(client, digest, folder)).status_code == 400
    assert engine.loaded == {}


async def test_a_file_that_leads_outside_is_refused(
    client: httpx.AsyncClient, root: Path, tmp_path: Path, engine: Engine
) -> None:
    digest = write_adapter(tmp_path / "outside")
    (root / "a").mkdir()
    for file in (tmp_path / "outside").iterdir():
        (root / "a" / file.name).symlink_to(file)
    assert (await load(client, digest)).status_code == 400
    assert engine.loaded == {}


async def test_pickles_are_not_loaded(client: httpx.AsyncClient, root: Path, engine: Engine) -> None:
    digest = write_adapter(root / "a")
    (root / "a" / "adapter_model.safetensors").rename(root / "a" / "adapter_model.bin")
    refused = await load(client, digest)
    assert (refused.status_code, engine.loaded) == (400, {})
    assert "safetensors" in refused.json()["error"]["message"]


def test_an_adapter_larger_than_the_pods_take_is_refused(root: Path, tmp_path: Path) -> None:
    digest = write_adapter(root / "a", halves(outer=1 << 16))
    with pytest.raises(InvalidRequest, match=r"Raise lora\.max_mib"):
        copy_of(Volume(root), "a", digest, tmp_path / "copies", max_mib=1)
    assert not (tmp_path / "copies").exists()
    assert copy_of(Volume(root), "a", digest, tmp_path / "copies", max_mib=4).is_dir()


async def test_what_a_killed_pod_left_of_a_copy_is_never_loaded(
    client: httpx.AsyncClient, root: Path, engine: Engine, settings: LlmSettings
) -> None:
    digest = write_adapter(root / "a")
    left = settings.engine.cache_dir / "adapters" / f"{digest.replace(':', '-')}.part"
    left.mkdir(parents=True)
    (left / "adapter_model.safetensors").write_bytes(b"half of it")
    assert (await load(client, digest)).status_code == 200
    (path,) = map(Path, engine.loaded.values())
    assert digest_of(path) == digest
    assert not left.exists()


async def test_an_adapter_whose_place_does_not_answer_is_asked_for_again(
    client: httpx.AsyncClient, root: Path, engine: Engine, guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503, since it says nothing of the adapter: a 400 would have the gateways leave it alone for a while."""

    def away(folder: str, name: str) -> int:
        raise Unavailable("It does not answer.")

    digest = write_adapter(root / "a")
    with monkeypatch.context() as patch:
        patch.setattr(guard.adapters._source, "size", away)
        assert (await load(client, digest)).status_code == 503
    assert (await load(client, digest)).status_code == 200


@pytest.mark.parametrize(
    ("shapes", "config", "why"),
    [
        (None, {"r": 32}, "rank 32"),
        (None, {"rank_pattern": {"q_proj": 64}}, "rank 64"),
        (None, {"r": "8"}, "no number"),
        (halves(rank=32), {}, "rank 32"),
        (None, {"peft_type": "IA3"}, "peft_type"),
        (None, {"use_dora": True}, "use_dora"),
        (None, {"bias": "all"}, "bias"),
        (None, {"modules_to_save": ["lm_head"]}, "modules_to_save"),
        (halves(f"{LAYER}.c_attn"), {}, "no module 'layers.0.self_attn.c_attn'"),
        (halves("model.layers.1.self_attn.q_proj"), {}, "no module 'layers.1.self_attn.q_proj'"),
        (halves(inner=128), {}, "does not fit"),
        (halves(outer=128), {}, "does not fit"),
        ({"base_model.model.x.weight": (8, 8)}, {}, "no tensor of LoRA"),
    ],
)
async def test_what_does_not_fit_is_refused_with_the_reason(
    client: httpx.AsyncClient,
    root: Path,
    engine: Engine,
    shapes: dict[str, tuple[int, int]] | None,
    config: dict[str, Any],
    why: str,
) -> None:
    refused = await load(client, write_adapter(root / "a", shapes, **config))
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], engine.loaded) == (400, "adapter_unfit", {})
    assert why in error["message"]


async def test_a_damaged_file_and_what_the_engine_refuses_are_refused(
    client: httpx.AsyncClient, root: Path, engine: Engine
) -> None:
    write_adapter(root / "a")
    (root / "a" / "adapter_model.safetensors").write_bytes(b"no tensors at all")
    assert "damaged" in (await load(client, digest_of(root / "a"))).json()["error"]["message"]
    digest = write_adapter(root / "a")
    engine.refuses = "vLLM refuses the adapter: because"
    assert (await load(client, digest)).status_code == 400
    assert (await client.get(LOAD_PATH)).json()["adapters"] == []


async def test_an_adapter_goes_when_its_last_answer_has_ended(
    client: httpx.AsyncClient,
    root: Path,
    engine: Engine,
    may_answer: asyncio.Event,
    settings: LlmSettings,
    guard: Guard,
) -> None:
    digest = write_adapter(root / "a")
    name = f"leave@{digest}"
    await load(client, digest)
    may_answer.clear()
    running = asyncio.ensure_future(ask(client, name))
    await until(lambda: guard.adapters._running[name])
    for _ in range(2):
        assert (await client.post(UNLOAD_ADAPTER, json={"name": name})).json() == {"adapters": []}
    assert (await ask(client, name)).status_code == 404, "nobody new gets it"
    assert name in engine.loaded
    may_answer.set()
    assert (await running).json() == {"model": name}
    await until(lambda: name not in engine.loaded)
    await until(lambda: list((settings.engine.cache_dir / "adapters").iterdir()) == [])
    assert (await client.post(UNLOAD_ADAPTER, json={"name": name})).status_code == 200


async def test_an_adapter_that_is_wanted_again_while_it_goes_stays(
    client: httpx.AsyncClient, root: Path, engine: Engine, may_answer: asyncio.Event, guard: Guard
) -> None:
    digest = write_adapter(root / "a")
    name = f"leave@{digest}"
    await load(client, digest)
    may_answer.clear()
    running = asyncio.ensure_future(ask(client, name))
    await until(lambda: guard.adapters._running[name])
    await client.post(UNLOAD_ADAPTER, json={"name": name})
    await load(client, digest)
    may_answer.set()
    await running
    await until(lambda: "adapter-unload" not in guard._supervisor.running)
    assert (await ask(client, name)).status_code == 200
    assert list(engine.loaded) == [name]


async def test_two_names_of_the_same_bytes_do_not_end_each_other(
    client: httpx.AsyncClient, root: Path, engine: Engine
) -> None:
    digest = write_adapter(root / "a")
    for name in ("one", "two"):
        await load(client, digest, name=name)
    await client.post(UNLOAD_ADAPTER, json={"name": f"one@{digest}"})
    await until(lambda: list(engine.loaded) == [f"two@{digest}"])
    assert digest_of(Path(engine.loaded[f"two@{digest}"])) == digest


async def test_a_copy_of_an_earlier_start_is_looked_at_again(
    client: httpx.AsyncClient, root: Path, engine: Engine, settings: LlmSettings
) -> None:
    digest = write_adapter(root / "a")
    kept = settings.engine.cache_dir / "adapters" / digest.replace(":", "-")
    shutil.copytree(root / "a", kept)
    (kept / "adapter_model.safetensors").write_bytes(b"changed meanwhile")
    assert (await load(client, digest)).status_code == 200
    assert digest_of(kept) == digest


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"name": "leave", "folder": "a", "digest": f"sha256:{'0' * 64}"},
        {"name": "leave@sha256:0", "folder": "a", "digest": "sha256:0"},
        {"name": f"leave@sha256:{'0' * 64}", "folder": 7, "digest": f"sha256:{'0' * 64}"},
        {"name": f"leave@sha256:{'0' * 64}", "folder": "a", "digest": f"sha256:{'0' * 64}", "path": "/"},
    ],
)
async def test_malformed_wishes_are_refused(client: httpx.AsyncClient, body: Any) -> None:
    assert (await client.post(LOAD_ADAPTER, json=body)).status_code == 400


async def test_adapters_change_with_our_token_only_and_vllms_own_routes_stay_shut(client: httpx.AsyncClient) -> None:
    for path in (LOAD_ADAPTER, UNLOAD_ADAPTER):
        answer = await client.post(path, json={}, headers={"authorization": "Bearer wrong"})
        assert answer.status_code == 401
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
        assert (await client.post(path, json={})).status_code == 404


async def test_a_pod_without_the_setting_says_so(make_settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard(Starlette(), make_settings(), prepare=lambda *_: None, loras=lambda _: Engine())
    with pytest.raises(InvalidRequest, match="lora"):
        await guard.adapters.load({}, Engine())
