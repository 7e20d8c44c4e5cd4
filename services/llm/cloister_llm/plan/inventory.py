"""Every weight of a model by name and shape, without the weights: what a plan counts when the files are not at hand.

transformers builds the model on PyTorch's ``meta`` device, where tensors have shapes and no memory. So the count is the
published one for whatever it knows: experts, shared experts, biases, norms, state-space layers, vision towers.
"""

import re
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from cloister_llm.plan.configuration import Configuration, PlanError, quietly

__all__ = ["Inventory", "Weight", "take_inventory"]

Part = Literal["embedding", "table", "head", "expert", "layer", "tower", "other"]
"""A table is looked up by row, as an embedding is, and never multiplied with."""

_TOWER = re.compile(
    r"(^|\.)(vision|visual|image|audio|speech|high_res_vision|vqmodel|qformer|multi_modal|multimodal|mm_|projector"
    r"|resampler|merger|aligner|connector|embed_vision|embed_audio)"
)
_TABLE = re.compile(r"(^|\.)(embed_tokens_per_layer|wpe|embed_positions|position_embeddings)\.weight$")
_LAYER = re.compile(r"(^|\.)(layers|h|blocks|block)\.(\d+)\.")
_EMBEDDING = re.compile(
    r"(^|\.)(embed_tokens|embeddings|wte|word_embeddings|embed_in|tok_embeddings|embedding)\.weight$"
)
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output|head)\.weight$")
_UNSEEN = "Its encoder of images or sound is not counted."
_SHARED = re.compile(r"shared_(expert|mlp)|\.shared\.")
_ROUTER = re.compile(r"\.(gate|router|router\.layer|gate\.wg|shared_expert_gate)\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor of a model."""

    name: str
    shape: tuple[int, ...]
    part: Part
    linear: bool
    """Whether it is a matrix that a layer multiplies with: what is quantised, and what an adapter changes."""

    @property
    def count(self) -> int:
        """Its elements."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All weights of a model."""

    weights: tuple[Weight, ...]
    note: str | None
    """What of the model is not counted, or not as itself; None where all is."""
    complete: bool = True
    """Whether nothing is left out."""

    def count(self, *parts: Part) -> int:
        """Parameters in these parts; in all of them where none is named."""
        return sum(weight.count for weight in self.weights if not parts or weight.part in parts)

    def adapter_width(self) -> int:
        """Elements that an adapter of rank 1 on every linear layer of the language model has: inputs and outputs."""
        return sum(
            (weight.shape[0] if len(weight.shape) == 3 else 1) * sum(weight.shape[-2:])
            for weight in self.weights
            if weight.linear and weight.part in {"layer", "expert"}
        )


def take_inventory(configuration: Configuration, experts: int) -> Inventory:
    """Lists what the model consists of.

    Args:
        configuration: The model.
        experts: Of a layer, of which a token uses some; 0 where there are none.

    Raises:
        PlanError: Its weights cannot be told from ``config.json``.
    """
    known = configuration.by_class()
    note, complete = None, True
    if known is None:
        model, note = _likeness(configuration)
        if configuration.towers:
            note, complete = " ".join(filter(None, [note, _UNSEEN])), False
    else:
        try:
            model = _built(known)
        except PlanError as error:
            if not known.towers:
                raise
            model, complete = _built(known, text_only=True), False
            note = f"{_UNSEEN} {error}"
    named = [(name, tuple(weight.shape)) for name, weight in model.named_parameters()]
    return Inventory(tuple(_weight(name, shape, experts) for name, shape in named), note, complete)


def _built(configuration: Configuration, *, text_only: bool = False) -> Any:
    import torch
    import transformers

    config: Any = configuration.whole
    if text_only or (not configuration.towers and config is not configuration.text):
        config = configuration.text  # the file has no tower: it is the language model alone
    written = configuration.file.get("architectures") if config is configuration.whole else None
    named = [getattr(transformers, str(name), None) for name in written or ()]
    classes: list[Any] = [
        *(model for model in named if isinstance(model, type) and hasattr(model, "_from_config")),
        *(
            model
            for mapping in (
                transformers.MODEL_FOR_CAUSAL_LM_MAPPING,
                transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
                transformers.MODEL_FOR_MULTIMODAL_LM_MAPPING,
            )[:: -1 if configuration.towers and not text_only else 1]
            if type(config) in mapping and isinstance(model := mapping[type(config)], type)
        ),
    ]
    if not classes:
        raise _uncounted(configuration, "transformers has no language model of this type")
    tied = configuration.get("tie_word_embeddings")  # by the language model, as vLLM does; the whole may differ
    for part in (config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", ()))):
        if part is not None:
            part.quantization_config = None
            part.dtype = None
    text: Any = configuration.text
    config.tie_word_embeddings = text.tie_word_embeddings = bool(tied)
    try:
        with quietly(), torch.device("meta"):
            return classes[0]._from_config(config, attn_implementation="eager")
    except Exception as error:
        raise _uncounted(configuration, " ".join(str(error).split())[:200]) from error


def _likeness(configuration: Configuration) -> tuple[Any, str | None]:
    """Of a type that transformers does not know, its language model: of a type that it knows, or counted as one whose
    keys it uses; and what there is to say of that."""
    from transformers import CONFIG_MAPPING

    inner = configuration.language_model()
    if inner is not None:
        return _built(inner), None
    written = dict(configuration.file) | {"architectures": None}
    heads = configuration.number("num_attention_heads", "n_head", "n_heads")
    shared = configuration.count("multi_query_group_num", "num_kv_heads", "num_attention_groups")
    written |= {  # by the names of those it is taken for, whose defaults are another model's
        "num_hidden_layers": len(configuration.layers()),
        "hidden_size": configuration.number("hidden_size", "n_embd", "d_model"),
        "num_attention_heads": heads,
        "num_key_value_heads": configuration.count("num_key_value_heads") or shared or heads,
        "intermediate_size": configuration.number("intermediate_size", "ffn_hidden_size", "n_inner"),
    }
    if configuration.get("kv_lora_rank"):
        kind = "deepseek_v3"
    elif configuration.get("n_routed_experts", "num_experts", "num_local_experts"):
        kind = "glm4_moe"
        written |= {
            "n_routed_experts": configuration.get("n_routed_experts", "num_experts", "num_local_experts"),
            "moe_intermediate_size": configuration.get("moe_intermediate_size", "intermediate_size"),
            "n_shared_experts": configuration.get("n_shared_experts", "num_shared_experts") or 0,
            "first_k_dense_replace": configuration.get("first_k_dense_replace") or 0,
        }
    else:
        kind = "llama"
    written["model_type"] = kind
    whole = CONFIG_MAPPING[kind].from_dict(written)
    like = Configuration(written, whole, whole)
    note = f"'{configuration.model_type}' is unknown to transformers: its weights are counted like {kind}'s"
    return _built(like), f"{note}."


def _uncounted(configuration: Configuration, why: str) -> PlanError:
    return PlanError(
        f"How many weights '{configuration.model_type}' has cannot be told from its config.json: {why.rstrip('.')}."
    )


def _weight(name: str, shape: tuple[int, ...], experts: int) -> Weight:
    part = _part(name, shape, experts)
    matrix = len(shape) >= 2 and part in {"layer", "expert", "tower", "head"}
    linear = matrix and "conv" not in name and "norm" not in name and "embed" not in name and not _ROUTER.search(name)
    return Weight(name, shape, part, linear and not name.endswith(("A_log", "_bias", ".bias")))


def _part(name: str, shape: tuple[int, ...], experts: int) -> Part:
    if _TOWER.search(name):
        return "tower"
    if _LAYER.search(name):
        if _SHARED.search(name):
            return "layer"
        if "expert" in name and len(shape) >= 2 and not _ROUTER.search(name):
            return "expert"
        return "expert" if experts > 1 and len(shape) == 3 and shape[0] == experts else "layer"
    if _TABLE.search(name):
        return "table"
    if _EMBEDDING.search(name):
        return "embedding"
    return "head" if _HEAD.search(name) else "other"
