"""Linear layers in a faster type give what the layer gives, row by row, and stand only where they can."""

import pytest
import torch
from cloister_common.settings import SettingsError
from cloister_embedder.models.linear import convert_linear_layers, linear_layer, rows_computed
from cloister_embedder.models.precision import Precision, possible_precisions
from torch import nn

FASTER = [precision for precision in possible_precisions("cpu") if precision != "float32"]


def make(bias: bool = True) -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(3)
    return nn.Linear(64, 48, bias=bias), torch.randn(5, 7, 64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", FASTER)
def test_faster_layer_gives_nearly_the_same(precision: Precision, bias: bool) -> None:
    source, rows = make(bias)
    layer = linear_layer(source, precision)
    with torch.inference_mode():
        exact, fast = source(rows), layer(rows.to(layer.weight.dtype)).float()
    assert fast.shape == exact.shape
    assert float((fast - exact).norm() / exact.norm()) < 0.02


@pytest.mark.parametrize("precision", FASTER)
def test_row_does_not_depend_on_the_rows_beside_it(precision: Precision) -> None:
    source, rows = make()
    layer = linear_layer(source, precision)
    # A huge neighbour, which one scale for the whole batch would follow.
    rows[1] *= 1000
    rows = rows.to(layer.weight.dtype)
    with torch.inference_mode():
        assert torch.allclose(layer(rows)[0], layer(rows[:1])[0], atol=1e-2)


@pytest.mark.parametrize("precision", FASTER)
def test_row_of_zeros_gives_the_bias(precision: Precision) -> None:
    source, rows = make()
    layer = linear_layer(source, precision)
    with torch.inference_mode():
        out = layer(torch.zeros_like(rows, dtype=layer.weight.dtype))
    assert torch.allclose(out.float(), source.bias.expand_as(out), atol=1e-2)


@pytest.mark.parametrize("precision", FASTER)
def test_score_heads_and_layers_that_do_more_stay(precision: Precision) -> None:
    class Doubled(nn.Linear):  # type: ignore[misc]
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    model = nn.ModuleDict({"body": nn.Sequential(nn.Linear(32, 32)), "head": nn.Linear(32, 1), "own": Doubled(32, 32)})
    head, own = model["head"], model["own"]
    convert_linear_layers("m", model, precision)
    assert model["head"] is head
    assert model["own"] is own
    assert type(model["body"][0]) is not nn.Linear


def test_batches_of_any_size_are_computed_in_few_sizes() -> None:
    sizes = {rows_computed(rows) for rows in range(1, 16_385)}
    assert len(sizes) < 80
    assert all(rows <= rows_computed(rows) <= max(rows + 15, rows * 9 / 8) for rows in range(1, 16_385))


def test_model_without_linear_layers_cannot_compute_in_bytes() -> None:
    with pytest.raises(SettingsError, match="Use dtype: auto"):
        convert_linear_layers("m", nn.Sequential(nn.Embedding(4, 4)), "int8")
