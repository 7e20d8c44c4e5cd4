"""What a model's ``config.json`` says about its size: layers, heads, attention kinds, parameters.

Keys are those of Hugging Face's configuration classes. Attention comes in three kinds here. *Full*: a key and a value
per token, layer and key-value head (grouped-query and multi-query attention have fewer of those heads). *Sliding*: the
same, for the last ``window`` tokens only. *Latent* (DeepSeek's MLA, arXiv:2405.04434 §2.1): one compressed vector of
``kv_lora_rank + qk_rope_head_dim`` per token and layer, whatever the number of heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DTYPE_BYTES", "ModelShape", "PlanError", "read_shape"]

DTYPE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Bytes of one element."""

_STATE_SPACE_KEYS = ("ssm_state_size", "mamba_d_state", "linear_num_key_heads", "linear_attn_config")
_ALTERNATING = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4}
"""Model types whose older configs leave the pattern out: every n-th layer is full, the others slide."""

_TIED = {"tie_word_embeddings": True}
_GEMMA_3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}
_DEFAULTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("gemma", "gemma2", "cohere", "cohere2"), _TIED),
    **dict.fromkeys(("gemma3", "gemma3_text"), _TIED | _GEMMA_3 | {"max_position_embeddings": 131072}),
}
"""What published configs leave out because it is their configuration class's default (transformers 5)."""


class PlanError(Exception):
    """A model that cannot be planned. The message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers a plan needs."""

    model_type: str
    layers: int
    sliding_layers: int
    window: int | None
    """Tokens a sliding layer looks back."""
    kv_heads: int
    head_dim: int
    latent_dim: int | None
    """Elements per token and layer under latent attention."""
    hidden: int
    widest: int
    """The widest activation of a layer."""
    vocabulary: int
    max_context: int
    dtype: str
    parameters: int
    """By formula; used when the weight files are not at hand."""
    active_parameters: int
    """Of those, used for one token (a mixture of experts uses few of its experts)."""
    quantised_bytes: float | None
    """Of one weight within the layers, where the config says that weights are quantised."""

    def kv_bytes(self, tokens: int, *, kv_dtype_bytes: float, ranks: int = 1, step: int = 0) -> int:
        """Bytes of KV cache that one conversation of ``tokens`` takes on each of ``ranks`` tensor-parallel devices.

        A sliding layer keeps its window and, while it computes, the ``step`` tokens of that step (vLLM's
        ``SlidingWindowSpec.max_memory_usage_bytes``).
        """
        if self.latent_dim is not None:
            return int(self.layers * self.latent_dim * kv_dtype_bytes * tokens)  # every rank holds it whole
        per_layer = 2 * max(1, -(-self.kv_heads // ranks)) * self.head_dim * kv_dtype_bytes
        seen = min(tokens, self.window + step) if self.window else tokens
        return int(per_layer * ((self.layers - self.sliding_layers) * tokens + self.sliding_layers * seen))


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a model by its ``config.json``.

    Raises:
        PlanError: A key is missing, or the model keeps a state that is no KV cache.
    """
    text = {**config, **(config.get("text_config") or {})}
    model_type = str(text.get("model_type", "unknown"))
    text = {**_DEFAULTS.get(model_type, {}), **text}
    if any(text.get(key) for key in _STATE_SPACE_KEYS):
        raise PlanError(
            f"Models with state-space or linear attention layers ('{model_type}') cannot be planned. "
            "Use a model with attention only."
        )
    hidden, layers = _number(text, "hidden_size", "n_embd"), _number(text, "num_hidden_layers", "n_layer")
    heads = _number(text, "num_attention_heads", "n_head")
    kv_heads = (
        1 if text.get("multi_query") else int(text.get("num_key_value_heads") or text.get("num_kv_heads") or heads)
    )
    head_dim = int(text.get("head_dim") or hidden // heads)
    rank = text.get("kv_lora_rank")
    window, sliding = _sliding(text, layers)
    parameters, active = _parameters(text, hidden, layers, heads, kv_heads, head_dim)
    return ModelShape(
        model_type=model_type,
        layers=layers,
        sliding_layers=sliding,
        window=window,
        kv_heads=kv_heads,
        head_dim=head_dim,
        latent_dim=int(rank) + int(text["qk_rope_head_dim"]) if rank else None,
        hidden=hidden,
        widest=int(text.get("intermediate_size") or 4 * hidden),
        vocabulary=_number(text, "vocab_size"),
        max_context=_max_context(text),
        dtype=str(text.get("dtype") or text.get("torch_dtype") or "bfloat16"),
        parameters=parameters,
        active_parameters=active,
        quantised_bytes=_quantised_bytes(config.get("quantization_config") or {}),
    )


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if config.get(name):
            return int(config[name])
    raise PlanError(f"The model's config.json lacks '{names[0]}', which the plan needs.")


def _max_context(config: Mapping[str, Any]) -> int:
    """The longest context; under YaRN a multiple of what the model was trained with, as vLLM reckons it."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if rope.get("rope_type", rope.get("type")) == "yarn" and rope.get("original_max_position_embeddings"):
        return int(rope["original_max_position_embeddings"] * rope.get("factor", 1.0))
    return _number(config, "max_position_embeddings", "n_positions", "max_seq_len")


def _quantised_bytes(quantisation: Mapping[str, Any]) -> float | None:
    """Bytes of one weight by a ``quantization_config``; None where it does not say."""
    method = quantisation.get("quant_method")
    groups = quantisation.get("config_groups") or {}  # compressed-tensors
    widths = [(group.get("weights") or {}).get("num_bits") for group in groups.values()]
    if bits := quantisation.get("bits") or max((width for width in widths if width), default=None):
        return float(bits) / 8
    if method == "bitsandbytes":
        return 0.5 if quantisation.get("load_in_4bit") else 1.0
    return {"fp8": 1.0, "fbgemm_fp8": 1.0, "mxfp4": 4.25 / 8}.get(str(method))  # MXFP4: one scale byte for 32 weights


def _sliding(config: Mapping[str, Any], layers: int) -> tuple[int | None, int]:
    """The window and the number of layers that slide."""
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return None, 0
    kinds = config.get("layer_types")
    if kinds:
        sliding = sum(kind in {"sliding_attention", "chunked_attention"} for kind in kinds)
    elif every := config.get("sliding_window_pattern") or _ALTERNATING.get(str(config.get("model_type"))):
        sliding = layers - layers // int(every)
    elif config.get("use_sliding_window"):
        sliding = layers - int(config.get("max_window_layers") or 0)  # Qwen2: the layers above that number slide
    else:
        sliding = layers
    return (int(window), sliding) if sliding > 0 else (None, 0)


def _parameters(
    config: Mapping[str, Any], hidden: int, layers: int, heads: int, kv_heads: int, head_dim: int
) -> tuple[int, int]:
    """All parameters and the active ones of a Llama-like decoder: embeddings, attention, gated MLP, norms."""
    vocabulary = _number(config, "vocab_size")
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    attention = _attention_parameters(config, hidden, heads, kv_heads, head_dim)
    model_type = str(config.get("model_type", ""))
    attention += hidden * (4 if model_type.startswith(("gemma2", "gemma3")) else 2)  # norms
    if model_type.startswith(("gemma3", "qwen3")):
        attention += 2 * head_dim  # norms of queries and keys
    dense = 3 * hidden * int(config.get("intermediate_size") or 4 * hidden)
    experts = int(config.get("num_local_experts") or config.get("n_routed_experts") or config.get("num_experts") or 0)
    if not experts:
        total = embeddings + hidden + layers * (attention + dense)
        return total, total
    expert = 3 * hidden * int(config.get("moe_intermediate_size") or config.get("intermediate_size") or 4 * hidden)
    shared = int(config.get("n_shared_experts") or 0) * expert  # DeepSeek
    shared += 3 * hidden * int(config.get("shared_expert_intermediate_size") or 0)  # Qwen2
    first = int(config.get("first_k_dense_replace") or 0)
    chosen = int(config.get("num_experts_per_tok") or 2)
    sparse = layers - first
    base = embeddings + hidden + layers * attention + first * dense + sparse * (hidden * experts + shared)
    return base + sparse * experts * expert, base + sparse * chosen * expert


def _attention_parameters(config: Mapping[str, Any], hidden: int, heads: int, kv_heads: int, head_dim: int) -> int:
    rank = int(config.get("kv_lora_rank") or 0)
    if not rank:
        queries, keys = heads * head_dim, kv_heads * head_dim
        biased = config.get("attention_bias") or config.get("model_type") in {"qwen2", "qwen2_moe"}
        return 2 * hidden * queries + 2 * hidden * keys + (queries + 2 * keys if biased else 0)
    rope, plain = int(config["qk_rope_head_dim"]), int(config["qk_nope_head_dim"])
    values, query_rank = int(config["v_head_dim"]), int(config.get("q_lora_rank") or 0)
    width = heads * (rope + plain)
    queries = hidden * query_rank + query_rank + query_rank * width if query_rank else hidden * width
    latent = hidden * (rank + rope) + rank + rank * heads * (plain + values)
    return queries + latent + heads * values * hidden
