"""The settings' own rules."""

from typing import Any

import pytest
from cloister_common.settings import SettingsError
from cloister_llm.settings import SETTINGS_VARIABLE, inherited_environment, pod_settings
from pydantic import ValidationError


@pytest.mark.parametrize(
    "name",
    [
        "trust-remote-code",
        "trust-remote-cod",  # argparse would complete it
        "middleware",
        "no-enable-prefix-caching",
        "kv-transfer-config.kv_role",
        "host",
        "enable-log-requests",
        "--seed",
        "SEED",
    ],
)
def test_options_the_launcher_owns_are_refused_by_name(make_settings: Any, name: str) -> None:
    with pytest.raises(ValidationError, match=f"'{name}'"):
        make_settings(engine={"extra_arguments": {name: True}})


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("tool-call-parser", "model.tool_parser"),
        ("no-enable-auto-tool-choice", "model.tool_parser"),
        ("reasoning-parser", "model.reasoning_parser"),
    ],
)
def test_options_that_became_settings_say_so(make_settings: Any, name: str, setting: str) -> None:
    with pytest.raises(ValidationError, match=setting):
        make_settings(engine={"extra_arguments": {name: "x"}})


@pytest.mark.parametrize("name", ["chat-template", "quantization", "seed", "max-num-batched-tokens"])
def test_other_options_are_taken(make_settings: Any, name: str) -> None:
    assert make_settings(engine={"extra_arguments": {name: "x"}}).engine.extra_arguments == {name: "x"}


def test_unknown_keys_are_refused(make_settings: Any) -> None:
    with pytest.raises(ValidationError, match="kv_cache_gb"):
        make_settings(engine={"kv_cache_gb": 1})


def test_vllm_started_by_hand_says_how_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTINGS_VARIABLE, raising=False)
    with pytest.raises(SettingsError, match="python -m cloister_llm"):
        pod_settings()


def test_the_environment_cannot_open_what_the_launcher_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_SERVER_DEV_MODE", "VLLM_API_KEY", "HF_TOKEN", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    inherited = inherited_environment()
    assert inherited["CUDA_VISIBLE_DEVICES"] == "0"
    assert not {"VLLM_SERVER_DEV_MODE", "VLLM_API_KEY", "HF_TOKEN", "HTTPS_PROXY", "https_proxy"} & inherited.keys()
