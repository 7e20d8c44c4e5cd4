"""Shapes of published models: parameter counts and KV-cache bytes known from their model cards."""

from typing import Any

import pytest
from cloister_llm.plan import PlanError, read_shape

LLAMA_3_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
MISTRAL_7B_V01 = {
    **LLAMA_3_8B,
    "model_type": "mistral",
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}
GEMMA_2_9B = {
    "model_type": "gemma2",
    "hidden_size": 3584,
    "intermediate_size": 14336,
    "num_hidden_layers": 42,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 256,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
}
GEMMA_3_4B: dict[str, Any] = {
    "model_type": "gemma3",
    "torch_dtype": "bfloat16",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
}
"""As published: heads, vocabulary and context are the configuration class's defaults."""
MIXTRAL_8X7B = {
    **LLAMA_3_8B,
    "model_type": "mixtral",
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "sliding_window": None,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN_3_8B = {
    **LLAMA_3_8B,
    "model_type": "qwen3",
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "sliding_window": None,
    "use_sliding_window": False,
}
QWEN_15_MOE = {
    "model_type": "qwen2_moe",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 151936,
    "max_position_embeddings": 8192,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096},
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "attention_bias": True,
    "tie_word_embeddings": False,
    "quantization_config": {"quant_method": "mxfp4"},
}
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "q_lora_rank": None,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
QWEN_25_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
SMOLLM2_135M = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (LLAMA_3_8B, 8_030_261_248),
        (MISTRAL_7B_V01, 7_241_732_096),
        (GEMMA_2_9B, 9_241_705_984),
        (QWEN_25_7B, 7_615_616_512),
        (SMOLLM2_135M, 134_515_008),
        (DEEPSEEK_V2_LITE, 15_706_484_224),
        (MIXTRAL_8X7B, 46_702_792_704),
        (QWEN_3_8B, 8_190_735_360),
        (GEMMA_3_4B, 3_880_263_168),
    ],
    ids=["llama-3-8b", "mistral", "gemma-2", "qwen2.5", "smollm2", "deepseek-v2-lite", "mixtral", "qwen3", "gemma-3"],
)
def test_parameters_are_those_of_the_published_weights(config: dict[str, Any], parameters: int) -> None:
    assert read_shape(config).parameters == parameters


@pytest.mark.parametrize(("config", "billions"), [(GPT_OSS_20B, 20.9), (QWEN_15_MOE, 14.3)], ids=["gpt-oss", "qwen1.5"])
def test_parameters_of_layers_with_parts_of_their_own_are_close(config: dict[str, Any], billions: float) -> None:
    assert read_shape(config).parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_mixture_of_experts_uses_few_of_its_parameters() -> None:
    shape = read_shape(DEEPSEEK_V2_LITE)
    assert 2.2e9 < shape.active_parameters < 2.8e9  # the model card says 2.4 billion


@pytest.mark.parametrize(
    ("config", "tokens", "size"),
    [
        (LLAMA_3_8B, 1, 2 * 32 * 8 * 128 * 2),
        (QWEN_25_7B, 1, 2 * 28 * 4 * 128 * 2),
        (SMOLLM2_135M, 1, 2 * 30 * 3 * 64 * 2),
        (MISTRAL_7B_V01, 32768, 2 * 32 * 8 * 128 * 2 * 4096),  # every layer looks back 4096 tokens
        (GEMMA_2_9B, 8192, 2 * 8 * 256 * 2 * (21 * 8192 + 21 * 4096)),  # every other layer slides
        (GEMMA_3_4B, 32768, 2 * 4 * 256 * 2 * (5 * 32768 + 29 * 1024)),  # five of six slide
        (DEEPSEEK_V2_LITE, 1, 27 * (512 + 64) * 2),  # one latent vector, no heads
        (GPT_OSS_20B, 131072, 2 * 8 * 64 * 2 * (12 * 131072 + 12 * 128)),
    ],
    ids=["llama-3", "qwen2.5", "smollm2", "mistral", "gemma-2", "gemma-3", "deepseek-v2", "gpt-oss"],
)
def test_kv_cache_of_each_kind_of_attention(config: dict[str, Any], tokens: int, size: int) -> None:
    assert read_shape(config).kv_bytes(tokens, kv_dtype_bytes=2) == size


def test_layer_types_decide_where_a_config_lists_them() -> None:
    kinds = ["sliding_attention", "full_attention"] * 13
    shape = read_shape({**GEMMA_2_9B, "num_hidden_layers": 26, "layer_types": kinds})
    assert (shape.window, shape.sliding_layers) == (4096, 13)


def test_a_context_stretched_by_yarn_is_the_one_vllm_reckons() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert read_shape({**QWEN_25_7B, "rope_scaling": yarn}).max_context == 131072
    assert read_shape(GPT_OSS_20B).max_context == 131072
    llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    assert read_shape({**LLAMA_3_8B, "rope_scaling": llama3}).max_context == 8192


def test_a_window_that_is_switched_off_does_not_slide() -> None:
    assert read_shape(QWEN_25_7B).sliding_layers == 0


def test_key_value_heads_are_shared_out_over_the_gpus_and_latent_vectors_are_not() -> None:
    llama, deepseek = read_shape(LLAMA_3_8B), read_shape(DEEPSEEK_V2_LITE)
    assert llama.kv_bytes(1, kv_dtype_bytes=2, ranks=4) * 4 == llama.kv_bytes(1, kv_dtype_bytes=2)
    assert deepseek.kv_bytes(1, kv_dtype_bytes=2, ranks=4) == deepseek.kv_bytes(1, kv_dtype_bytes=2)


def test_multi_query_attention_has_one_key_value_head() -> None:
    falcon = {**LLAMA_3_8B, "model_type": "falcon", "num_key_value_heads": None, "multi_query": True}
    assert read_shape(falcon).kv_heads == 1


def test_a_missing_key_is_named() -> None:
    with pytest.raises(PlanError, match="lacks 'hidden_size'"):
        read_shape({"model_type": "llama"})
