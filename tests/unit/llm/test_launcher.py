"""What vLLM would be started with, and why it would not be."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cloister_common.settings import SettingsError
from cloister_llm import launcher
from cloister_llm.__main__ import main
from cloister_llm.launcher import prepare
from pydantic import ValidationError

from tests.support.certificates import certificate_for

CONFIG = Path("llm.yaml")


def words_of(ready: Any) -> dict[str, str]:
    """The options as a map; flags map to an empty string."""
    return {word.partition("=")[0]: word.partition("=")[2] for word in ready.command[3:]}


@pytest.fixture
def settings(make_settings: Any, model_folder: Path) -> Any:
    """Settings of a model that fits."""
    return make_settings(engine={"kv_cache_gib": 0.5, "max_model_len": 2048})


def test_the_command_is_vllms_server_with_its_doors_shut(settings: Any) -> None:
    ready = prepare(settings, CONFIG)
    assert ready.command[:2] == [sys.executable, "-m"]
    words = words_of(ready)
    assert words["--served-model-name"] == "small"
    assert words["--max-model-len"] == "2048"
    assert words["--kv-cache-memory-bytes"] == str(512 * 1024 * 1024)
    assert words["--middleware"] == "cloister_llm.guard.middleware.Guard"
    assert words["--scheduling-policy"] == "priority"
    assert words["--load-format"] == "safetensors"
    assert {"--enable-prefix-caching", "--disable-uvicorn-access-log", "--disable-fastapi-docs"} <= words.keys()
    for forbidden in ("--trust-remote-code", "--enable-log-requests", "--gpu-memory-utilization", "--enforce-eager"):
        assert forbidden not in words


def test_the_environment_keeps_vllm_off_the_network_and_caches_private(settings: Any) -> None:
    environment = prepare(settings, CONFIG).environment
    assert environment["HF_HUB_OFFLINE"] == environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_PLUGINS"] == "cloister_llm"
    assert environment["CLOISTER_LLM_SETTINGS"] == str(CONFIG.absolute())
    cache = settings.engine.cache_dir
    assert environment["VLLM_CACHE_ROOT"] == str(cache / "vllm")
    assert cache.stat().st_mode & 0o077 == 0
    assert "VLLM_SERVER_DEV_MODE" not in environment


def test_the_settings_file_is_named_as_it_was_given_and_outlives_the_turn_of_its_link(
    settings: Any, tmp_path: Path
) -> None:
    (tmp_path / "..1").mkdir()
    (tmp_path / "..data").symlink_to("..1")
    named = tmp_path / "..data" / "llm.yaml"
    assert prepare(settings, named).environment["CLOISTER_LLM_SETTINGS"] == str(named)


def test_tls_is_served_by_vllm(make_settings: Any, model_folder: Path, tmp_path: Path) -> None:
    certificate, key = certificate_for("127.0.0.1", tmp_path / "tls")
    words = words_of(prepare(make_settings(server={"tls": {"certificate_file": certificate, "key_file": key}}), CONFIG))
    assert (words["--ssl-certfile"], words["--ssl-keyfile"]) == (str(certificate), str(key))
    assert "--enable-ssl-refresh" not in words  # it follows one renewal of a mounted Secret, and no second


def test_a_certificate_that_cannot_be_served_is_said(make_settings: Any, model_folder: Path, tmp_path: Path) -> None:
    certificate, _ = certificate_for("127.0.0.1", tmp_path / "one")
    _, key = certificate_for("127.0.0.1", tmp_path / "other")
    for pair in ((certificate, key), (certificate, tmp_path / "none.key")):
        tls = dict(zip(("certificate_file", "key_file"), pair, strict=True))
        with pytest.raises(SettingsError, match="Cannot use the certificate"):
            prepare(make_settings(server={"tls": tls}), CONFIG)


def test_extra_arguments_are_passed_on(make_settings: Any, model_folder: Path) -> None:
    extra = {"quantization": "fp8", "enable-dbo": True, "hf-overrides": {"rope_theta": 1}}
    words = words_of(prepare(make_settings(engine={"extra_arguments": extra}), CONFIG))
    assert words["--quantization"] == "fp8"
    assert words["--enable-dbo"] == ""
    assert words["--hf-overrides"] == '{"rope_theta": 1}'


def test_adapters_have_slots_that_the_plan_counts(make_settings: Any, model_folder: Path, tmp_path: Path) -> None:
    engine = {"kv_cache_gib": 0.5, "max_model_len": 2048}
    without = prepare(make_settings(engine=engine), CONFIG)
    assert not [word for word in words_of(without) if "lora" in word]
    lora = {"folder": tmp_path / "adapters", "slots": 3, "rank": 64}
    with pytest.raises(SettingsError, match="no folder"):
        prepare(make_settings(engine=engine, lora=lora), CONFIG)
    (tmp_path / "adapters").mkdir()
    ready = prepare(make_settings(engine=engine, lora=lora), CONFIG)
    words = words_of(ready)
    assert "--enable-lora" in words
    assert (words["--max-loras"], words["--max-lora-rank"]) == ("3", "64")
    assert ready.capacity.adapters > without.capacity.adapters == 0
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in ready.environment


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "'folder' or 'bucket'"),
        ({"folder": "/adapters", "bucket": {"url": "s3://adapters"}}, "and not both"),
        ({"bucket": {"url": "gs://adapters"}}, "url"),
        ({"bucket": {"url": "s3://adapters", "access_key_id_file": "id"}}, "set both or neither"),
    ],
)
def test_adapters_lie_in_one_place(make_settings: Any, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        make_settings(lora={"slots": 2, **changes})


def test_a_bucket_of_adapters_has_its_secrets_before_the_pod_starts(
    make_settings: Any, model_folder: Path, tmp_path: Path
) -> None:
    """It is not asked yet: it may be away for a moment, and the model answers without its adapters."""
    files = {"access_key_id_file": tmp_path / "id", "secret_access_key_file": tmp_path / "secret"}
    settings = make_settings(lora={"bucket": {"url": "s3://adapters/chat", "region": "here", **files}})
    with pytest.raises(SettingsError, match="access key id"):
        prepare(settings, CONFIG)
    for file in files.values():
        file.write_text("0123456789abcdef0123")
    assert "--enable-lora" in words_of(prepare(settings, CONFIG))
    files["ca_file"] = tmp_path / "ca.crt"
    settings = make_settings(lora={"bucket": {"url": "s3://adapters/chat", "region": "here", **files}})
    with pytest.raises(SettingsError, match=r"Cannot read .*ca\.crt"):
        prepare(settings, CONFIG)
    files["ca_file"].write_text("no certificate")
    with pytest.raises(SettingsError, match="Cannot open the bucket s3://adapters/chat: No certificates"):
        prepare(settings, CONFIG)


def test_a_gpu_gets_its_share_and_no_fixed_cache(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "gpu_memory_bytes", lambda: [24 * 1024**3])
    ready = prepare(make_settings(engine={"device": "auto"}), CONFIG)
    assert ready.device == "gpu"
    assert words_of(ready)["--gpu-memory-utilization"] == "0.9"
    assert "--kv-cache-memory-bytes" not in words_of(ready)
    assert "VLLM_CPU_OMP_THREADS_BIND" not in ready.environment


def test_sleep_is_for_gpus_and_said_where_there_is_none(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(engine={"device": "auto", "sleep": True})
    monkeypatch.setattr(launcher, "gpu_memory_bytes", list)
    with pytest.raises(SettingsError, match=r"engine\.sleep needs a GPU"):
        prepare(settings, CONFIG)
    monkeypatch.setattr(launcher, "gpu_memory_bytes", lambda: [24 * 1024**3])
    assert "--enable-sleep-mode" in words_of(prepare(settings, CONFIG))
    assert "--enable-sleep-mode" not in words_of(prepare(make_settings(engine={"device": "auto"}), CONFIG))


def test_a_missing_gpu_is_said(make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "gpu_memory_bytes", list)
    with pytest.raises(SettingsError, match="no GPU is visible"):
        prepare(make_settings(engine={"device": "gpu"}), CONFIG)


def test_a_driver_that_hangs_is_said(make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr("cloister_llm.hardware.shutil.which", lambda _: "/bin/nvidia-smi")
    monkeypatch.setattr("cloister_llm.hardware.subprocess.run", hang)
    with pytest.raises(SettingsError, match="driver hangs"):
        prepare(make_settings(engine={"device": "auto"}), CONFIG)


def test_a_cache_folder_that_anyone_may_write_to_is_refused(settings: Any) -> None:
    settings.engine.cache_dir.mkdir()
    settings.engine.cache_dir.chmod(0o777)
    with pytest.raises(SettingsError, match="what lies there is executed"):
        prepare(settings, CONFIG)
    assert list(settings.engine.cache_dir.iterdir()) == []


def test_a_missing_model_is_said(make_settings: Any) -> None:
    with pytest.raises(SettingsError, match="There is no model in"):
        prepare(make_settings(), CONFIG)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no safetensors weights"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), "pytorch_model.bin"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"), "damaged or incomplete"),
    ],
)
def test_what_is_wrong_with_a_model_folder_is_said(
    make_settings: Any, model_folder: Path, change: Any, reason: str
) -> None:
    change(model_folder)
    with pytest.raises(SettingsError, match=reason):
        prepare(make_settings(), CONFIG)


def test_a_model_that_does_not_fit_does_not_start(make_settings: Any, model_folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"KV cache of 4000\.00 GiB does not fit"):
        prepare(make_settings(engine={"kv_cache_gib": 4000}), CONFIG)


@pytest.mark.parametrize("key", ["port", "metrics_port"])
def test_a_taken_port_is_named_with_its_setting(make_settings: Any, model_folder: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"Cannot listen on 127\.0\.0\.1:{port}.*server\.{key}"):
            prepare(make_settings(server={key: port}), CONFIG)


def test_a_short_token_does_not_start(make_settings: Any, model_folder: Path) -> None:
    settings = make_settings()
    settings.token_file.write_text("short")
    with pytest.raises(SettingsError, match="internal token"):
        prepare(settings, CONFIG)


def test_serve_becomes_vllm(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(os, "execve", lambda *arguments: seen.append(arguments))
    monkeypatch.setattr(launcher, "_stand_back", lambda nice: None)
    monkeypatch.setattr("cloister_llm.__main__.configure_logging", lambda **_: None)
    monkeypatch.setattr(launcher, "divert_output", lambda _: None)
    monkeypatch.setattr(launcher, "start_herald", lambda *_: {"CLOISTER_LLM_LISTENER": "7"})
    config = tmp_path / "llm.yaml"
    config.write_text(settings.model_dump_json())
    assert main(["--config", str(config)]) == 0
    assert main(["serve", "--config", str(config)]) == 0
    assert [program for program, _, _ in seen] == [sys.executable] * 2
    assert [environment["CLOISTER_LLM_LISTENER"] for _, _, environment in seen] == ["7"] * 2


@pytest.mark.parametrize(
    ("engine", "inherited", "wanted"), [({}, 0, 10), ({}, 15, 15), ({"nice": 0}, 0, 0), ({"nice": 19}, 5, 19)]
)
def test_a_model_on_processors_stands_back(
    make_settings: Any, model_folder: Path, engine: dict[str, int], inherited: int, wanted: int
) -> None:
    """Asked of a process of its own: who is lowered may not rise again."""
    settings = make_settings(engine={"kv_cache_gib": 0.5, "max_model_len": 2048, **engine})
    nice, ours = prepare(settings, CONFIG).nice, os.getpriority(os.PRIO_PROCESS, 0)
    program = f"""
import os
from cloister_llm.launcher import _stand_back
os.setpriority(os.PRIO_PROCESS, 0, {max(inherited, ours)})
_stand_back({nice})
print(os.getpriority(os.PRIO_PROCESS, 0))
"""
    # In a session of its own as well: the kernel may weigh sessions, and ours would stand back from then on.
    seen = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert int(seen.stdout) == max(wanted, ours)


def test_a_wrong_setting_is_one_sentence_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(tmp_path / "none.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_plan_prints_settings_that_load(
    model_folder: Path, capsys: pytest.CaptureFixture[str], make_settings: Any
) -> None:
    assert main(["plan", "--model", str(model_folder), "--cpu-memory", "4", "--conversations", "4"]) == 0
    import yaml

    block = yaml.safe_load(capsys.readouterr().out)
    settings = make_settings(model=block["model"], engine=block["engine"])
    assert settings.engine.max_model_len == 8192
    assert settings.engine.kv_cache_gib is not None


def test_plan_says_what_does_not_fit(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", str(model_folder), "--gpu-memory", "0.5"]) == 2
    assert "does not fit" in capsys.readouterr().err


def test_there_is_one_compiler_of_schemas_whatever_comes_first(make_settings: Any, model_folder: Path) -> None:
    ready = prepare(make_settings(), CONFIG)
    assert words_of(ready)["--structured-outputs-config"] == '{"backend": "guidance", "disable_any_whitespace": true}'
    assert ready.environment["VLLM_ENFORCE_STRICT_TOOL_CALLING"] == "0"
    with pytest.raises(ValueError, match="set by the launcher"):
        make_settings(engine={"extra_arguments": {"structured-outputs-config.backend": "outlines"}})


def test_threads_are_as_many_as_cores_unless_the_operator_says(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launcher, "cpu_cores", lambda: 3)
    assert prepare(make_settings(), CONFIG).environment["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert prepare(make_settings(), CONFIG).environment["OMP_NUM_THREADS"] == "7"


def test_each_thread_has_a_core_where_all_cores_are_the_pods(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("cloister_llm.hardware.os.sched_getaffinity", lambda _: {5, 2, 3})
    monkeypatch.setattr("cloister_llm.hardware.cores_allowed", lambda: None)
    environment = prepare(make_settings(), CONFIG).environment
    assert (environment["VLLM_CPU_OMP_THREADS_BIND"], environment["OMP_NUM_THREADS"]) == ("2,3,5", "3")


@pytest.mark.parametrize(("quota", "wished"), [(2.0, None), (None, "2")], ids=["a quota", "the operator's number"])
def test_threads_are_not_bound_where_they_are_fewer_than_cores(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch, quota: float | None, wished: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wished is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wished)
    monkeypatch.setattr("cloister_llm.hardware.os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr("cloister_llm.hardware.cores_allowed", lambda: quota)
    environment = prepare(make_settings(), CONFIG).environment
    assert (environment["VLLM_CPU_OMP_THREADS_BIND"], environment["OMP_NUM_THREADS"]) == ("nobind", "2")


def test_libraries_that_make_it_faster_go_before_what_was_preloaded(
    make_settings: Any, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/their/own.so")
    monkeypatch.setattr(launcher, "fast_libraries", lambda: [Path("/a/libiomp5.so"), Path("/b/libtcmalloc.so")])
    ready = prepare(make_settings(), CONFIG)
    assert ready.environment["LD_PRELOAD"] == "/a/libiomp5.so:/b/libtcmalloc.so:/their/own.so"
    monkeypatch.delenv("LD_PRELOAD")
    monkeypatch.setattr(launcher, "fast_libraries", list)
    assert "LD_PRELOAD" not in prepare(make_settings(), CONFIG).environment


def test_a_model_over_the_containers_limit_is_one_sentence_and_exit_code_2(
    tmp_path: Path,
    settings: Any,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("cloister_llm.hardware.memory_left", lambda: 600 * 1024**2)
    monkeypatch.setattr("cloister_llm.__main__.configure_logging", lambda **_: None)
    config = tmp_path / "llm.yaml"
    config.write_text(settings.model_dump_json())
    assert main(["--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "does not fit" in said


def test_a_start_does_not_pay_for_libraries_that_only_a_plan_without_weights_needs(
    make_settings: Any, model_folder: Path
) -> None:
    program = (
        "import json, sys\n"
        "from cloister_llm.plan import Load, plan_capacity, read_shape\n"
        "import cloister_llm.launcher\n"
        f"shape = read_shape(json.load(open({str(model_folder / 'config.json')!r})))\n"
        "plan_capacity(shape, 2000, Load('cpu', 8 * 2**30, kv_cache_bytes=2**30))\n"
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))\n"
    )
    seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
