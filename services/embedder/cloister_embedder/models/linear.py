"""The matrix products of a model on a CPU: linear layers whose weights are laid out once, for the type they run in.

torch reorders a bfloat16 weight for the processor at each call, which costs a short batch as much as the product does.
And where a processor multiplies bytes (VNNI) and has no AMX, bytes are the only way past float32. This imports torch,
so import it where seconds do not matter.
"""

from abc import ABC, abstractmethod

import torch
from cloister_common.settings import SettingsError
from torch import Tensor, nn

from cloister_embedder.models.precision import Precision

__all__ = ["convert_linear_layers", "linear_layer", "rows_computed"]

_LEAST_OUTPUTS = 16
"""Layers with fewer outputs stay as they are: a reranker's score, which takes no time and wants its digits."""


def rows_computed(rows: int) -> int:
    """How many rows a product of ``rows`` rows is computed with: at most an eighth more, or up to a multiple of 16.

    oneDNN compiles kernels for each number of rows. On a processor with AMX the process grew by half a MiB with each of
    them and each layer width, whatever its cache was bounded to. Batches have thousands of sizes; of these there are
    eight in each doubling.
    """
    step = max(16, 1 << max(rows.bit_length() - 4, 0))
    return -(-rows // step) * step


class _Layer(nn.Module, ABC):  # type: ignore[misc]  # torch is not type-checked
    """Stands where an ``nn.Linear`` stood.

    Attributes:
        weight: Empty. It has the type and the device of the activations, which some architectures ask their layers for.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, source: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.in_features, self.out_features = source.in_features, source.out_features
        bias = torch.zeros(source.out_features) if source.bias is None else source.bias.detach()
        self.register_buffer("weight", torch.empty(0, dtype=dtype))
        self.register_buffer("bias", bias.to(dtype))

    def forward(self, rows: Tensor) -> Tensor:
        flat = rows.reshape(-1, self.in_features)
        count = flat.shape[0]
        padded = nn.functional.pad(flat, (0, 0, 0, rows_computed(count) - count))
        return self.products(padded)[:count].reshape(*rows.shape[:-1], self.out_features)

    @abstractmethod
    def products(self, rows: Tensor) -> Tensor:
        """What the layer gives for ``rows``, of shape (rows, inputs): (rows, outputs)."""


class PackedLinear(_Layer):
    """A linear layer in bfloat16, its weight in oneDNN's own layout."""

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source, torch.bfloat16)
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(source.weight.detach().bfloat16())

    def products(self, rows: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self.bias, "none", [], "")
        return out


class Int8Linear(_Layer):
    """A linear layer whose weight and, at each call, input are rounded to bytes; outside it is float32.

    The weight has a scale for each output and the input one for each row, so that a text's scales are its own whatever
    it shares a batch with. What comes between still differs in its last digits, and may then be rounded to the next
    byte: MiniLM's vector of a text alone and in a batch had a cosine of .9986.
    """

    _scales: Tensor
    _bytes: Tensor

    def __init__(self, source: nn.Linear) -> None:
        super().__init__(source, torch.float32)
        weight = source.weight.detach().float()
        scales = (weight.abs().amax(1) / 127).clamp_min(1e-12)
        self.register_buffer("_scales", scales)
        self.register_buffer("_bytes", torch.round(weight / scales[:, None]).to(torch.int8).t().contiguous())

    def products(self, rows: Tensor) -> Tensor:
        # In place where it can be: at these sizes a pass over memory costs as much as the product.
        scales = rows.abs().amax(1, keepdim=True).div_(127).clamp_min_(1e-12)
        products = torch._int_mm((rows * scales.reciprocal()).round_().to(torch.int8), self._bytes)
        return products.to(torch.float32).mul_(scales).mul_(self._scales).add_(self.bias)


def linear_layer(source: nn.Linear, precision: Precision) -> nn.Module:
    """What computes ``source`` on a CPU in ``precision``; in float32 that is the layer itself."""
    if precision == "float32":
        return source
    return PackedLinear(source) if precision == "bfloat16" else Int8Linear(source)


def convert_linear_layers(name: str, model: nn.Module, precision: Precision) -> None:
    """Puts the layers of ``precision`` in the place of the model's linear layers. For a model on a CPU.

    Args:
        name: The model's public name, for the error.
        model: It has the type of its activations already.
        precision: What its matrix products run in.

    Raises:
        SettingsError: int8 was asked for, and there is nothing that could be converted.
    """
    places = [
        (parent, key, layer)
        for parent in model.modules()
        for key, layer in parent.named_children()
        # A subclass may do more than multiply.
        if type(layer) is nn.Linear and layer.out_features >= _LEAST_OUTPUTS
    ]
    if precision == "int8" and not places:
        raise SettingsError(f"Model '{name}' has no linear layers that could compute in int8. Use dtype: auto.")
    for parent, key, layer in places:
        setattr(parent, key, linear_layer(layer, precision))
