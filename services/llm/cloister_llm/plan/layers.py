"""What each layer of a model keeps of a conversation: keys and values, a latent vector, or a state of fixed size.

*Attention* keeps a key and a value for each token and key-value head: all tokens, or those of a window or chunk.
*Latent* attention (DeepSeek's MLA, arXiv:2405.04434 §2.1) keeps one vector of ``kv_lora_rank + qk_rope_head_dim`` per
token, whatever the number of heads. *States* (Mamba, Mamba-2, gated delta nets, short convolutions, lightning
attention) are as large after a million tokens as after one. Sizes follow vLLM's ``kv_cache_interface.py`` and
``MambaStateShapeCalculator``; kinds are transformers' ``layer_types``.
"""

from dataclasses import dataclass, replace

from cloister_llm.plan.configuration import Configuration, PlanError, Reader

__all__ = ["Attention", "Kept", "Latent", "Part", "State", "read_layers"]


@dataclass(frozen=True, slots=True)
class Attention:
    """Keys and values of one layer."""

    heads: int
    """Key-value heads."""
    key_dim: int
    value_dim: int
    window: int | None = None
    """Tokens it looks back; None is all."""
    chunked: bool = False
    """Whether the window is one of chunks that lie side by side, not one that slides."""

    def reserved(self, tokens: int, step: int, block: int) -> int:
        """Tokens in the whole blocks that vLLM reserves of so many, ``step`` of which are being computed.

        A window that slides may begin within a block, and so needs one more
        (``SlidingWindowSpec.max_admission_blocks_per_request``; a chunk does not, ``ChunkedLocalAttentionSpec``).
        """
        if self.window is None:
            return -(-tokens // block) * block
        if self.chunked:
            return -(-min(tokens, self.window + step) // block) * block
        return (-(-min(tokens, self.window - 1 + step) // block) + 1) * block


@dataclass(frozen=True, slots=True)
class Latent:
    """One compressed vector per token."""

    elements: int
    index_bytes: int = 0
    """Per token, of the keys by which sparse attention chooses what to look at; kept in 8 bits with scales."""
    chosen: int | None = None
    """Tokens it then looks at; None is all."""


@dataclass(frozen=True, slots=True)
class State:
    """What a recurrent layer or a convolution carries from token to token."""

    convolution: int
    """Elements, in what the model computes in."""
    recurrent: int
    """Elements of the recurrence proper."""
    recurrent_bytes: float | None = None
    """Of one of them; None is as the rest."""
    kept: int = 2
    """For one conversation: the running one, and one at a block's end for the prefix cache (vLLM's
    ``MambaSpec.max_memory_usage_bytes`` in the mode ``align``, which prefix caching brings)."""


Part = Attention | Latent | State
Kept = tuple[Part, ...]
"""What one layer keeps: mostly one thing; nothing in layers that share another's; two in Falcon-H1 and Zamba."""

_EVERY_NTH_FULL = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
_STATES = {"linear_attention", "mamba", "mamba2", "conv", "short_conv"}
_NOTHING = {"moe", "mlp", "dense", "sparse", "-"}
_LATENT_AS_HEADS = {"minicpm3"}
"""Types whose latent vectors vLLM keeps decompressed, head by head."""
_MAMBA_ALONE = {"mamba", "falcon_mamba"}
_INDEX_BLOCK = 128  # elements of an index key for each 32-bit scale


def read_layers(configuration: Configuration) -> list[Kept]:
    """What each layer keeps, from the first to the last.

    Raises:
        PlanError: A kind of layer whose memory is not known.
    """
    readers = configuration.layers()
    kinds = _kinds(configuration, len(readers))
    shared = configuration.count("num_kv_shared_layers")
    pairs = enumerate(zip(kinds, readers, strict=True))
    kept = [_layer(kind, reader, number, configuration) for number, (kind, reader) in pairs]
    if shared:  # Gemma 3n: the last layers read what earlier ones have written
        kept[-shared:] = [()] * shared
    return kept


def _kinds(configuration: Configuration, layers: int) -> list[str]:
    known = configuration.text
    # A class has made one vocabulary of all that files say; theirs counts where there is none.
    for source in (known, None):
        for name in ("layer_types", "layers_block_type"):
            kinds = getattr(source, name, None) if source is not None else configuration.get(name)
            if isinstance(kinds, list | tuple) and kinds and all(isinstance(kind, str) for kind in kinds):
                if len(kinds) != layers:
                    raise PlanError(
                        f"The model's config.json has {layers} layers and {len(kinds)} of '{name}'. Copy it again."
                    )
                return ["full_attention" if kind == "attention" else kind for kind in kinds]
    if not configuration.get("sliding_window") or configuration.get("use_sliding_window") is False:
        return ["full_attention"] * layers
    every = configuration.get("sliding_window_pattern") or _EVERY_NTH_FULL.get(configuration.model_type)
    if every:
        return ["sliding_attention" if (n + 1) % int(every) else "full_attention" for n in range(layers)]
    if configuration.get("use_sliding_window"):  # Qwen2: the layers above that number slide
        first = configuration.count("max_window_layers")
        return ["sliding_attention" if n >= first else "full_attention" for n in range(layers)]
    return ["sliding_attention"] * layers


def _layer(kind: str, reader: Reader, number: int, configuration: Configuration) -> Kept:
    if kind in _NOTHING:
        return ()
    if kind in _STATES:
        return (_state(kind, reader, configuration),)
    if kind in {"hybrid", "hybrid_mamba"}:
        return (_attention(reader, number, None, configuration), _state("mamba", reader, configuration))
    if kind in {"full_attention", "indexed_attention", "minimax_m3_sparse"}:
        return (_full(kind, reader, number, configuration),)
    if kind == "sliding_attention":
        window = reader.number("sliding_window", "sliding_window_size", "attention_window_size")
        return (_attention(reader, number, window, configuration, "swa_"),)
    if kind == "chunked_attention":
        chunk = reader.number("attention_chunk_size", "sliding_window")
        return (replace(_attention(reader, number, chunk, configuration), chunked=True),)
    raise PlanError(
        f"What layers of the kind '{kind}' ('{configuration.model_type}') keep of a conversation is not known, so this "
        "model cannot be planned. Use a model with attention, latent attention or state-space layers."
    )


def _full(kind: str, reader: Reader, number: int, configuration: Configuration) -> Attention | Latent:
    rank, rope = reader.count("kv_lora_rank"), reader.count("qk_rope_head_dim")
    index = reader.count("index_head_dim") if kind != "full_attention" else 0
    index_bytes = index + 4 * -(-index // _INDEX_BLOCK) if index else 0
    if rank and configuration.model_type in _LATENT_AS_HEADS:
        width = rope + reader.number("qk_nope_head_dim")
        return Attention(reader.number("num_attention_heads"), width, width)
    if rank:
        return Latent(rank + rope, index_bytes, reader.count("index_topk") or None if index else None)
    if index:
        raise PlanError(
            f"Sparse attention with an index but without latent vectors ('{configuration.model_type}') cannot be "
            "planned: what it keeps is not known. Use a model with another attention."
        )
    return _attention(reader, number, None, configuration)


def _attention(
    reader: Reader, number: int, window: int | None, configuration: Configuration, prefix: str = ""
) -> Attention:
    """Full or sliding attention; ``prefix`` is put before keys that may differ in sliding layers (MiMo)."""

    def own(name: str) -> str:
        return f"{prefix}{name}"

    heads = _of_layer(reader.get(own("num_attention_heads"), "num_attention_heads", "n_head", "n_heads"), number)
    if not heads:
        raise PlanError("The model's config.json lacks 'num_attention_heads', which the plan needs.")
    kv_heads = _of_layer(
        reader.get(
            *(own("num_key_value_heads"), "num_key_value_heads", "num_kv_heads", "n_head_kv", "num_query_groups"),
            *("num_attention_groups", "kv_n_heads"),
        ),
        number,
    )
    if reader.get("multi_query_attention"):  # ChatGLM
        kv_heads = reader.count("multi_query_group_num") or 1
    elif reader.get("attn_type") == "multiquery_attention":  # MPT
        kv_heads = 1
    elif reader.get("multi_query"):  # Falcon, but not its new architecture; GPT-BigCode
        kv_heads = kv_heads if reader.get("new_decoder_architecture") else 1
    width = _of_layer(
        reader.get(own("head_dim"), "head_dim", "attention_head_dim", "hidden_size_per_head", "kv_channels"), number
    )
    if not width:
        width = reader.number("hidden_size", "n_embd", "d_model") // heads
    values = _of_layer(reader.get(own("v_head_dim"), "v_head_dim"), number) or width
    return Attention(kv_heads or heads, width, values, window)


def _of_layer(value: object, number: int) -> int:
    """A number, or the layer's own where there is a list of them (OpenELM)."""
    if isinstance(value, list | tuple):
        value = value[number] if number < len(value) else 0
    return int(value) if isinstance(value, int | float) else 0


def _state(kind: str, reader: Reader, configuration: Configuration) -> State:
    hidden = reader.number("hidden_size", "n_embd", "d_model")
    stored = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}.get(
        str(reader.get("mamba_ssm_cache_dtype", "mamba_ssm_dtype")).removeprefix("torch.")
    )
    if kind in {"conv", "short_conv"}:  # LFM2
        return State((reader.count("conv_dim") or hidden) * (reader.number("conv_L_cache") - 1), 0)
    if value_heads := reader.count("linear_num_value_heads"):  # gated delta net: Qwen3-Next, OLMo hybrid
        key_dim, value_dim = reader.number("linear_key_head_dim"), reader.number("linear_value_head_dim")
        channels = 2 * reader.number("linear_num_key_heads") * key_dim + value_heads * value_dim
        taps = reader.number("linear_conv_kernel_dim") - 1
        return State(channels * taps, value_heads * value_dim * key_dim, stored)
    if heads := reader.count("linear_num_heads"):  # Kimi's delta attention, whose states are always 32 bits
        width = reader.number("linear_head_dim")
        return State(3 * heads * width * (reader.number("linear_conv_kernel_dim") - 1), heads * width * width, 4.0)
    size = reader.count("mamba_d_state", "ssm_state_size", "state_size")
    if size:
        taps = reader.number("mamba_d_conv", "conv_kernel") - 1
        width = reader.count("mamba_d_head", "mamba_head_dim", "mamba_headdim")
        heads = reader.count("mamba_n_heads", "mamba_num_heads", "n_mamba_heads")
        if configuration.model_type == "mamba2":
            width, heads = reader.number("head_dim"), reader.number("num_heads")
        if width:  # Mamba-2 has heads, and groups that share what reads and writes the state
            groups = reader.count("mamba_n_groups", "mamba_ngroups", "n_groups") or 1
            channels = heads * width
            # One more: it stores a block's end in the midst of a step (``num_prefill_checkpoint_blocks``).
            return State((channels + 2 * groups * size) * taps, channels * size, stored, kept=3)
        # What the one width of models that are Mamba throughout is called; Falcon's is another than the product.
        own = reader.count("intermediate_size") if configuration.model_type in _MAMBA_ALONE else 0
        channels = own or reader.count("mamba_expand", "expand") * hidden or reader.number("intermediate_size")
        return State(channels * taps, channels * size, stored)
    if configuration.model_type.startswith(("minimax", "bailing")):  # lightning attention: a square for each head
        heads = reader.number("num_attention_heads")
        width = reader.count("head_dim") or hidden // heads
        return State(0, heads * width * width, stored)
    raise PlanError(
        f"How large the state of the layers of the kind '{kind}' is, the config.json of this model "
        f"('{configuration.model_type}') does not say in a way that is known. Use another model."
    )
