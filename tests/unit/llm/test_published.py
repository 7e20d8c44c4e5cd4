"""Published models: parameters, cache and states against what their files weigh and what is reckoned by hand."""

from pathlib import Path
from typing import Any

import pytest
from cloister_llm.plan import Load, PlanError, plan_capacity, read_shape, weight_bytes
from cloister_llm.plan.capacity import GIB

from tests.unit.llm import published
from tests.unit.llm.test_shape import GEMMA_3_4B, GPT_OSS_20B, LLAMA_3_8B

NOWHERE = Path("/nonexistent")


@pytest.mark.parametrize(
    ("config", "parameters"), [pytest.param(config, count, id=name) for name, config, count in published.PARAMETERS]
)
def test_parameters_are_those_of_the_published_files(config: dict[str, Any], parameters: int) -> None:
    assert read_shape(config).parameters == parameters


@pytest.mark.parametrize(
    ("config", "billions", "active"), [pytest.param(*rest, id=name) for name, *rest in published.BILLIONS]
)
def test_parameters_are_near_those_of_the_card(config: dict[str, Any], billions: float, active: float) -> None:
    shape = read_shape(config)
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.03)
    assert shape.active_parameters / 1e9 == pytest.approx(active, rel=0.03)


@pytest.mark.parametrize(
    ("config", "low", "high"),
    [
        (published.JAMBA, 11.5e9, 12.5e9),
        (published.DEEPSEEK_V3, 36.5e9, 38e9),
        (published.QWEN_3_30B_A3B, 3.2e9, 3.4e9),
        (published.QWEN_3_NEXT_80B, 3.0e9, 4.0e9),
    ],
    ids=["jamba", "deepseek-v3", "qwen3-30b-a3b", "qwen3-next"],
)
def test_a_token_uses_the_chosen_and_the_shared_experts(config: dict[str, Any], low: float, high: float) -> None:
    assert low < read_shape(config).active_parameters < high


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (published.JAMBA, 4 * 2 * 8 * 128 * 2),  # one of eight layers is attention
        (published.QWEN_3_NEXT_80B, 12 * 2 * 2 * 256 * 2),  # one of four
        (published.NEMOTRON_NANO_9B, 4 * 2 * 8 * 128 * 2),  # the stars of its pattern
        (published.FALCON_H1_7B, 44 * 2 * 2 * 128 * 2),  # all of them
        (published.KIMI_LINEAR, 7 * (512 + 64) * 2),
        (published.DEEPSEEK_V3, 61 * (512 + 64) * 2),
        (published.LFM2_1_2B, 6 * 2 * 8 * 64 * 2),
        (published.FALCON_7B, 32 * 2 * 1 * 64 * 2),
        (published.MAMBA_2_780M, 0),
        (published.LLAVA_15_7B, 32 * 2 * 32 * 128 * 2),
        (published.MISTRAL_SMALL_31, 40 * 2 * 8 * 128 * 2),
        (published.QWEN_2_VL_7B, 28 * 2 * 4 * 128 * 2),
        (published.LLAMA_31_70B, 80 * 2 * 8 * 128 * 2),
    ],
    ids=[
        *("jamba", "qwen3-next", "nemotron", "falcon-h1", "kimi-linear", "deepseek-v3", "lfm2", "falcon", "mamba2"),
        *("llava", "mistral-small", "qwen2-vl", "llama"),
    ],
)
def test_only_layers_with_attention_take_cache_for_a_token(config: dict[str, Any], size: int) -> None:
    assert read_shape(config).kv_bytes(1, kv_dtype_bytes=2) == size


@pytest.mark.parametrize(
    ("config", "layers", "convolution", "recurrent"),
    [
        (published.JAMBA, 28, 8192 * 3, 8192 * 16),
        (published.QWEN_3_NEXT_80B, 36, (2 * 16 * 128 + 32 * 128) * 3, 32 * 128 * 128),
        (published.FALCON_H1_7B, 44, (3072 + 2 * 256) * 3, 24 * 128 * 256),
        (published.MAMBA_2_780M, 48, (3072 + 2 * 128) * 3, 48 * 64 * 128),
        (published.LFM2_1_2B, 10, 2048 * 2, 0),
        # In 32 bits, whatever the model computes in: twice as many of 16.
        (published.NEMOTRON_NANO_9B, 27, (128 * 80 + 2 * 8 * 128) * 3, 2 * 128 * 80 * 128),
        (published.KIMI_LINEAR, 20, 3 * 32 * 128 * 3, 2 * 32 * 128 * 128),
    ],
    ids=["jamba", "qwen3-next", "falcon-h1", "mamba2", "lfm2", "nemotron", "kimi-linear"],
)
def test_states_are_as_large_as_vllm_makes_them(
    config: dict[str, Any], layers: int, convolution: int, recurrent: int
) -> None:
    shape = read_shape(config)
    assert shape.state_layers == layers
    assert shape.state_bytes(dtype_bytes=2) == layers * (convolution + recurrent) * 2


def test_a_conversation_of_a_hybrid_takes_its_states_whatever_its_length() -> None:
    shape = read_shape(published.JAMBA)
    weights = shape.parameters * 2
    short = plan_capacity(shape, weights, Load("gpu", 160 * GIB, context=1024))
    long = plan_capacity(shape, weights, Load("gpu", 160 * GIB, context=65536))
    states = 2 * shape.state_bytes(dtype_bytes=2)  # vLLM keeps one more for the prefix cache
    assert short.conversation >= states
    assert states < long.conversation - shape.kv_bytes(65536, kv_dtype_bytes=2) < 3 * states


@pytest.mark.parametrize(
    ("config", "states"),
    [
        (published.MAMBA_2_780M, 3),  # Mamba-2 stores one at a block's end within a step
        (published.FALCON_MAMBA_7B, 2),
    ],
    ids=["mamba2", "falcon-mamba"],
)
def test_a_conversation_has_as_many_states_of_a_layer_as_vllm_keeps(config: dict[str, Any], states: int) -> None:
    shape = read_shape(config)
    capacity = plan_capacity(shape, shape.parameters * 2, Load("gpu", 48 * GIB, context=1024))
    assert capacity.conversation == states * shape.state_bytes(dtype_bytes=2)


def test_a_model_of_states_alone_is_planned_and_its_conversations_do_not_grow() -> None:
    shape = read_shape(published.MAMBA_2_780M)
    sizes = {
        plan_capacity(shape, shape.parameters * 2, Load("gpu", 24 * GIB, context=context)).conversation
        for context in (1024, 65536)
    }
    assert len(sizes) == 1


def test_an_encoder_of_images_counts_where_the_file_names_one() -> None:
    assert read_shape(published.QWEN_2_VL_7B).encoder_parameters == pytest.approx(0.675e9, rel=0.01)
    assert read_shape(published.GEMMA_3_27B).encoder_parameters == pytest.approx(0.42e9, rel=0.02)
    assert read_shape(GEMMA_3_4B).encoder_parameters == 0


@pytest.mark.parametrize(
    ("config", "quantisation", "size"),
    [
        (published.DEEPSEEK_V3, published.DEEPSEEK_V3["quantization_config"], 672e9),
        (published.LLAMA_31_70B, {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, 39.8e9),
        (published.LLAMA_31_70B, {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, 39.8e9),
        (
            published.LLAMA_31_70B,
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}}
                },
                "ignore": ["lm_head"],
            },
            39.8e9,
        ),
        (published.LLAMA_31_70B, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, 42.7e9),
        (GPT_OSS_20B, {"quant_method": "mxfp4"}, 13_761_264_768),
        # A tower that is not quantised, and one layer that the list leaves alone
        (published.QWEN_2_VL_7B, {"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["visual"]}, 6.93e9),
    ],
    ids=["fp8 blocks", "awq", "gptq", "compressed-tensors", "nvfp4", "mxfp4", "awq with a tower"],
)
def test_quantised_weights_weigh_what_the_published_files_do(
    config: dict[str, Any], quantisation: dict[str, Any], size: float
) -> None:
    shape = read_shape({**config, "quantization_config": quantisation})
    assert weight_bytes(NOWHERE, shape) == pytest.approx(size, rel=0.015)


@pytest.mark.parametrize("exception", ["model.layers.0.mlp", "re:.*layers\\.0\\.mlp\\..*", "*layers.0.mlp*"])
def test_what_a_list_of_exceptions_names_stays_as_it_was(exception: str) -> None:
    awq = {"quant_method": "awq", "bits": 4, "group_size": 128}
    whole = read_shape({**LLAMA_3_8B, "quantization_config": awq})
    some = read_shape({**LLAMA_3_8B, "quantization_config": {**awq, "modules_to_not_convert": [exception]}})
    more = weight_bytes(NOWHERE, some) - weight_bytes(NOWHERE, whole)
    assert more == pytest.approx(3 * 4096 * 14336 * (2 - (4 + 20 / 128) / 8), rel=0.001)


def test_an_exception_that_is_no_expression_ends_the_plan_with_a_sentence() -> None:
    broken = {"quant_method": "awq", "bits": 4, "modules_to_not_convert": ["re:("]}
    shape = read_shape({**LLAMA_3_8B, "quantization_config": broken})
    with pytest.raises(PlanError, match="list of exceptions"):
        weight_bytes(NOWHERE, shape)


def test_slots_for_adapters_take_what_vllm_sets_aside() -> None:
    shape = read_shape(LLAMA_3_8B)
    weights = shape.parameters * 2
    plain = plan_capacity(shape, weights, Load("gpu", 80 * GIB))
    slots = plan_capacity(shape, weights, Load("gpu", 80 * GIB, adapter_slots=4, adapter_rank=32))
    sides = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)  # of queries and outputs, keys and values, MLP
    assert slots.adapters == 4 * 32 * 32 * sides * 2
    assert plain.kv_cache - slots.kv_cache == slots.adapters


def test_stages_of_a_pipeline_share_layers_and_cache() -> None:
    shape = read_shape(LLAMA_3_8B)
    one = plan_capacity(shape, shape.parameters * 2, Load("gpu", 24 * GIB))
    two = plan_capacity(shape, shape.parameters * 2, Load("gpu", 24 * GIB, stages=2))
    assert two.conversation * 2 == one.conversation
    assert one.weights / 2 < two.weights < one.weights * 0.6  # a table of the vocabulary stands at either end


def test_a_type_that_nobody_knows_is_counted_like_one_whose_keys_it_uses() -> None:
    shape = read_shape({**LLAMA_3_8B, "model_type": "brand_new"})
    assert shape.parameters == read_shape(LLAMA_3_8B).parameters
    assert "brand_new" in str(shape.inventory.note)
    latent = {key: value for key, value in published.DEEPSEEK_V3.items() if key != "architectures"}
    assert read_shape({**latent, "model_type": "brand_new"}).kv_bytes(1, kv_dtype_bytes=2) == 61 * 576 * 2


def test_a_language_model_within_a_type_that_nobody_knows_is_counted_as_itself_and_its_encoder_named() -> None:
    inner = {
        key: value for key, value in published.DEEPSEEK_V3.items() if key not in {"qk_rope_head_dim", "rope_scaling"}
    }
    shape = read_shape(
        {
            "model_type": "brand_new_vl",
            "language_config": inner,
            "vision_config": {"hidden_size": 8},
            "torch_dtype": "bfloat16",
        }
    )
    assert shape.kv_bytes(1, kv_dtype_bytes=2) == 61 * 576 * 2  # what the file leaves out, the inner class says
    assert shape.parameters == read_shape(published.DEEPSEEK_V3).parameters
    with pytest.raises(PlanError, match=r"encoder of images .* is not counted.*Copy model.safetensors.index.json"):
        weight_bytes(NOWHERE, shape)


def test_an_encoder_under_a_name_of_its_own_is_not_passed_over() -> None:
    phi = {
        **LLAMA_3_8B,
        "model_type": "phi4mm",
        "embd_layer": {"image_embd_layer": {}},
        "audio_processor": {"name": "x"},
    }
    shape = read_shape(phi)
    assert shape.towers == ("embd_layer", "audio_processor")
    with pytest.raises(PlanError, match="encoder of images or sound is not counted"):
        weight_bytes(NOWHERE, shape)


def test_falcons_mamba_is_as_wide_as_it_says() -> None:
    shape = read_shape(published.FALCON_MAMBA_7B)
    assert shape.parameters == 7_272_665_088
    assert shape.state_bytes(dtype_bytes=2) == 64 * (8192 * 3 + 8192 * 16) * 2


def test_a_type_of_other_names_for_the_same_is_counted_by_what_they_mean() -> None:
    shape = read_shape(published.GLM_4_9B)
    assert shape.parameters / 1e9 == pytest.approx(9.4, rel=0.005)
    assert shape.kv_bytes(1, kv_dtype_bytes=2) == 40 * 2 * 2 * 128 * 2


def test_lightning_attention_keeps_a_square_for_each_head() -> None:
    shape = read_shape(published.MINIMAX_TEXT_01)
    assert shape.parameters / 1e9 == pytest.approx(456, rel=0.005)
    assert shape.kv_bytes(1, kv_dtype_bytes=2) == 10 * 2 * 8 * 128 * 2
    assert shape.state_bytes(dtype_bytes=2) == 70 * 64 * 128 * 128 * 2


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({**LLAMA_3_8B, "model_type": "brand_new", "block_configs": [{"no_op": True}] * 32}, "'block_configs'"),
        ({**LLAMA_3_8B, "model_type": "brand_new", "layer_types": ["wormhole"] * 32}, "'wormhole'"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "encoder and a decoder"),
        ({**LLAMA_3_8B, "model_type": "brand_new", "layer_types": ["linear_attention"] * 32}, "How large the state"),
        ({**LLAMA_3_8B, "model_type": "brand_linear"}, "'model_type'"),
        ({**LLAMA_3_8B, "model_type": "brand_new", "layer_group_size": 5}, "'layer_group_size'"),
        ({**LLAMA_3_8B, "num_hidden_layers": -3}, "-3 layers"),
        ({**LLAMA_3_8B, "num_hidden_layers": 10**9}, "1000000000 layers"),
        ({**LLAMA_3_8B, "architectures": ["BertForMaskedLM"]}, "writes none"),
        ({**LLAMA_3_8B, "layer_types": ["full_attention"] * 3}, "3"),
    ],
    ids=[
        *("section", "layer", "encoder-decoder", "state", "type", "groups", "negative", "endless", "encoder"),
        "layers that do not add up",
    ],
)
def test_what_cannot_be_known_is_refused_by_name(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        read_shape(config)
