"""The numbers about a model that a plan is made of: what a conversation takes, and what a token computes and reads."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cloister_llm.plan.configuration import Configuration, PlanError, Reader, read_configuration
from cloister_llm.plan.inventory import Inventory, take_inventory
from cloister_llm.plan.layers import Attention, Kept, Latent, Part, State, read_layers

__all__ = ["DTYPE_BYTES", "ModelShape", "PlanError", "read_shape"]

DTYPE_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}
"""Bytes of one element."""

_NO_LIMIT = 131072  # tokens: what a model is planned for that has only states, and so no longest context of its own


@dataclass(frozen=True)
class ModelShape:
    """The numbers a plan needs. Parameters are counted when first asked for, which takes seconds."""

    model_type: str
    layers: int
    sliding_layers: int
    window: int | None
    """Tokens a sliding layer looks back."""
    kv_heads: int
    head_dim: int
    latent_dim: int | None
    """Elements per token and layer under latent attention."""
    heads: int
    """Of queries: what a model can be shared out by. 0 where there is no attention."""
    hidden: int
    widest: int
    """The widest activation of a layer."""
    vocabulary: int
    max_context: int
    dtype: str
    kept: tuple[Kept, ...] = field(repr=False)
    """What each layer keeps."""
    experts: int
    """Of a layer; 0 where every token uses all weights."""
    chosen_experts: int
    """Of those, used for one token, shared ones not counted."""
    towers: tuple[str, ...]
    """Encoders of images or sound, by their sections."""
    configuration: Configuration = field(repr=False, compare=False)

    @cached_property
    def inventory(self) -> Inventory:
        """Every weight.

        Raises:
            PlanError: They cannot be told from ``config.json``.
        """
        return take_inventory(self.configuration, self.experts)

    @property
    def parameters(self) -> int:
        """All of them, as the model's card says, with its encoder towers."""
        return self.inventory.count()

    @property
    def encoder_parameters(self) -> int:
        """Of those, in encoder towers and what joins them to the language model."""
        return self.inventory.count("tower")

    @property
    def active_parameters(self) -> int:
        """Those of the language model that one token uses: a mixture of experts uses few of its experts."""
        idle = 1 - self.chosen_experts / self.experts if self.experts else 0
        return self.parameters - self.encoder_parameters - int(self.inventory.count("expert") * idle)

    @property
    def state_layers(self) -> int:
        """Layers that carry a state of fixed size."""
        return sum(any(isinstance(part, State) for part in kept) for kept in self.kept)

    def kv_bytes(self, tokens: int, *, kv_dtype_bytes: float, ranks: int = 1) -> int:
        """Bytes of keys and values of one conversation of ``tokens`` on each of ``ranks`` tensor-parallel devices.

        Of a sliding layer those of its window. States are not in it: see `state_bytes`.
        """
        total = 0.0
        for part in (part for kept in self.kept for part in kept if not isinstance(part, State)):
            window = part.window if isinstance(part, Attention) else None
            total += _token_bytes(part, kv_dtype_bytes, ranks) * min(tokens, window or tokens)
        return int(total)

    def _states(self) -> list[State]:
        return [part for kept in self.kept for part in kept if isinstance(part, State)]

    def state_bytes(self, *, dtype_bytes: float, ranks: int = 1) -> int:
        """Bytes of states that one conversation of any length takes on each of ``ranks`` devices, one of each layer."""
        return math.ceil(sum(_state_bytes(part, dtype_bytes) for part in self._states()) / ranks)

    def conversation_bytes(
        self, tokens: int, *, kv_dtype_bytes: float, dtype_bytes: float, ranks: int = 1, step: int = 0, block: int = 16
    ) -> int:
        """Bytes that one conversation reserves: keys, values and states in whole blocks, of ``block`` tokens.

        Sliding layers keep their window and the ``step`` tokens that are being computed.

        vLLM takes all blocks of a model from one pool, so they are equally large: where states stand beside attention,
        a block of keys and values holds as many tokens as make it as large as a state (``_align_hybrid_block_size``).
        """
        layers = Counter(part for kept in self.kept for part in kept)
        tokens_each = {
            part: _token_bytes(part, kv_dtype_bytes, ranks) for part in layers if not isinstance(part, State)
        }
        states = {part: _state_bytes(part, dtype_bytes) / ranks for part in layers if isinstance(part, State)}
        state = max(states.values(), default=0.0)
        page = 0.0
        if state and tokens_each:
            each = next(iter(tokens_each.values()))
            block = -(-math.ceil(state / each) // block) * block
            page = block * each
        held: dict[Part, float] = {part: part.kept * max(page, size) for part, size in states.items() if size}
        whole = -(-tokens // block) * block
        for part, each in tokens_each.items():
            held[part] = each * (part.reserved(tokens, step, block) if isinstance(part, Attention) else whole)
        if len({*tokens_each.values()}) <= 1 and (page or not states):
            layers = _grouped(layers)
        return math.ceil(sum(size * layers[part] for part, size in held.items()))


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape of a model by its ``config.json``.

    Raises:
        PlanError: A key is missing, or the model keeps what no plan is made for.
    """
    _refuse(config)
    read = read_configuration(config)
    if read.get("cross_attention_layers"):
        raise PlanError(
            f"'{read.model_type}' keeps what its cross-attention sees of images beside the conversation, which is not "
            "planned. Use a model that reads images as tokens."
        )
    kept = read_layers(read)
    parts = [part for layer in kept for part in layer]
    attention = [part for part in parts if isinstance(part, Attention)]
    latent = next((part for part in parts if isinstance(part, Latent)), None)
    sliding = [part for part in attention if part.window]
    widest_cache = max(attention, key=lambda part: part.heads * part.key_dim, default=None)
    hidden = read.number("hidden_size", "n_embd", "d_model")
    experts = _count(
        read, "num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts", "moe_num_primary_experts"
    )
    return ModelShape(
        model_type=read.model_type,
        layers=len(kept),
        sliding_layers=len(sliding),
        window=max((part.window for part in sliding if part.window), default=None),
        kv_heads=widest_cache.heads if widest_cache else _count(read, "num_key_value_heads"),
        head_dim=widest_cache.key_dim if widest_cache else 0,
        latent_dim=latent.elements if latent else None,
        heads=_count(read, "num_attention_heads", "n_head", "n_heads") if attention or latent else 0,
        hidden=hidden,
        widest=_count(read, "intermediate_size", "ffn_hidden_size", "n_inner") or 4 * hidden,
        vocabulary=read.number("vocab_size", "padded_vocab_size"),
        max_context=_max_context(read, any(not isinstance(part, State) for part in parts)),
        dtype=str(read.written("dtype", "torch_dtype") or "bfloat16").removeprefix("torch."),
        kept=tuple(kept),
        experts=experts,
        chosen_experts=min(experts, _chosen(read)) if experts else 0,
        towers=read.towers,
        configuration=read,
    )


def _refuse(file: Mapping[str, Any]) -> None:
    """Models that are no decoders, by what their files say first."""
    kind, written = file.get("model_type"), " ".join(str(name) for name in file.get("architectures") or ())
    if file.get("is_encoder_decoder"):
        raise PlanError(
            f"'{kind}' has an encoder and a decoder, and keeps what both say. Use one with a decoder alone."
        )
    if "ForMaskedLM" in written or "Classification" in written:
        raise PlanError(f"'{kind}' reads texts and writes none ({written}). Use a model that writes.")


def _grouped(layers: Mapping[Part, int]) -> Counter[Part]:
    """``layers`` by kind as vLLM counts them: in groups of equally many, the last of a kind filled up.

    See ``_get_kv_cache_groups_uniform_page_size`` of its ``kv_cache_utils.py``.
    """
    least, most = min(layers.values(), default=0), max(layers.values(), default=0)
    size = most if most < 1.5 * least else least
    return Counter({part: -(-count // size) * size for part, count in layers.items()})


def _token_bytes(part: Attention | Latent, kv_dtype_bytes: float, ranks: int) -> float:
    """Of one token in one layer, on one device."""
    if isinstance(part, Latent):  # every rank holds it whole
        return part.elements * kv_dtype_bytes + part.index_bytes
    return max(1, -(-part.heads // ranks)) * (part.key_dim + part.value_dim) * kv_dtype_bytes


def _state_bytes(part: State, dtype_bytes: float) -> float:
    return part.convolution * dtype_bytes + part.recurrent * (part.recurrent_bytes or dtype_bytes)


def _count(read: Reader, *names: str) -> int:
    """The largest of what the first of the names has: a few files have a list with a number for each layer."""
    value = read.get(*names)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = max((item for item in value if isinstance(item, int)), default=0)
    return int(value) if isinstance(value, int | float) else 0


def _chosen(read: Reader) -> int:
    names = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k")
    chosen = _count(read, *names, "num_selected_experts", "moe_router_topk")
    if not chosen:
        raise PlanError("The model's config.json lacks 'num_experts_per_tok', which the plan needs.")
    return chosen


def _max_context(read: Configuration, attentive: bool) -> int:
    """The longest context, stretched as vLLM reckons it.

    Under YaRN it is a multiple of what the model was trained with; Gemma 3 and Llama 3 have theirs in the file.
    """
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length")
    written = _count(read, *names, "max_sequence_length", "max_seq_length", "seq_len")
    rope = read.file.get("rope_scaling") or read.get("rope_scaling", "rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, Mapping) else None
    factor = float(rope.get("factor") or 1.0) if kind else 1.0
    if kind == "yarn" and rope.get("original_max_position_embeddings"):
        return int(rope["original_max_position_embeddings"] * factor)
    if kind in {"linear", "dynamic"} and not read.model_type.startswith("gemma3"):
        return int(written * factor)
    if not written and not attentive:
        return _NO_LIMIT
    return written or read.number(*names)
