"""What fits, what does not, and what the plan says then."""

import pytest
from cloister_llm.plan import DoesNotFit, Load, plan_capacity, read_shape
from cloister_llm.plan.capacity import GIB

from tests.unit.llm.test_shape import GEMMA_3_4B, LLAMA_3_8B, SMOLLM2_135M

LLAMA = read_shape(LLAMA_3_8B)
WEIGHTS = LLAMA.parameters * 2


def test_kv_cache_is_what_weights_and_workspace_leave() -> None:
    capacity = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 24 * GIB))
    assert capacity.weights + capacity.workspace + capacity.kv_cache == int(24 * GIB * 0.9)
    assert capacity.conversation == 8192 * capacity.kv_per_token == GIB
    assert capacity.conversations == capacity.kv_cache // GIB == 4
    assert capacity.context == LLAMA.max_context


def test_the_longest_context_is_the_longest_that_fits_for_the_conversations_asked_for() -> None:
    capacity = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 24 * GIB, conversations=10))
    assert capacity.conversations >= 10
    assert capacity.context % 16 == 0
    longer = capacity.context + 16
    with pytest.raises(DoesNotFit):
        plan_capacity(LLAMA, WEIGHTS, Load("gpu", 24 * GIB, conversations=10, context=longer))


def test_too_large_a_model_is_refused_with_numbers_and_the_mend() -> None:
    with pytest.raises(DoesNotFit, match=r"14\.96 GiB of weights .* 14\.40 GiB .*engine\.tensor_parallel"):
        plan_capacity(LLAMA, WEIGHTS, Load("gpu", 16 * GIB))


def test_two_gpus_carry_half_the_weights_each() -> None:
    capacity = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 16 * GIB, devices=2))
    assert capacity.weights == WEIGHTS / 2
    assert capacity.conversation == GIB / 2


def test_a_context_beyond_the_models_own_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="more than the 8192 the model was made for"):
        plan_capacity(LLAMA, WEIGHTS, Load("gpu", 80 * GIB, context=16384))


def test_a_context_that_does_not_fit_says_what_would() -> None:
    with pytest.raises(DoesNotFit, match=r"20 conversation\(s\) of 8192 tokens need 20\.00 GiB .* tokens for 20"):
        plan_capacity(LLAMA, WEIGHTS, Load("gpu", 24 * GIB, context=8192, conversations=20))


def test_half_the_cache_element_holds_twice_the_conversations() -> None:
    full = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 40 * GIB))
    small = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 40 * GIB, kv_dtype="fp8"))
    assert small.conversation * 2 == full.conversation


def test_a_model_that_computes_in_32_bits_keeps_its_cache_in_32() -> None:
    half = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 80 * GIB))
    whole = plan_capacity(LLAMA, WEIGHTS, Load("gpu", 80 * GIB, dtype="float32"))
    assert whole.conversation == 2 * half.conversation


def test_a_fixed_cache_on_a_cpu_is_kept() -> None:
    shape = read_shape(SMOLLM2_135M)
    capacity = plan_capacity(shape, shape.parameters * 2, Load("cpu", 8 * GIB, kv_cache_bytes=GIB))
    assert capacity.kv_cache == GIB
    assert capacity.conversations == GIB // (8192 * 23040)


def test_a_fixed_cache_larger_than_the_machine_is_refused() -> None:
    shape = read_shape(SMOLLM2_135M)
    with pytest.raises(DoesNotFit, match=r"Lower engine\.kv_cache_gib"):
        plan_capacity(shape, shape.parameters * 2, Load("cpu", 4 * GIB, kv_cache_bytes=8 * GIB))


def test_a_cache_too_small_for_a_chat_is_refused() -> None:
    shape = read_shape(SMOLLM2_135M)
    with pytest.raises(DoesNotFit, match="1024 tokens need"):
        plan_capacity(shape, shape.parameters * 2, Load("cpu", 4 * GIB, kv_cache_bytes=1024 * 1024))


def test_sliding_layers_keep_their_window_what_is_computed_and_the_block_in_which_the_window_begins() -> None:
    shape = read_shape(GEMMA_3_4B)
    each = 2 * 4 * 256 * 2  # bytes of a token in one layer; of 5 and 29 layers vLLM makes 5 and 30
    on_gpu = plan_capacity(shape, 8 * GIB, Load("gpu", 24 * GIB, context=131072))
    assert on_gpu.conversation == each * (5 * 131072 + 30 * (1024 + 2 * 8192 + 16))  # two steps at once
    on_cpu = plan_capacity(shape, 8 * GIB, Load("cpu", 24 * GIB, context=131072))
    assert on_cpu.conversation == each * (5 * 131072 + 30 * (1024 + 2048 + 128))
    short = plan_capacity(shape, 8 * GIB, Load("cpu", 24 * GIB, context=1024))
    assert short.conversation == each * (5 * 1024 + 30 * (1024 + 128)), "never more than the conversation and a block"


def test_chunks_begin_with_a_block() -> None:
    kinds = ["chunked_attention"] * 31 + ["full_attention"]
    shape = read_shape({**LLAMA_3_8B, "model_type": "brand_new", "layer_types": kinds, "attention_chunk_size": 4096})
    capacity = plan_capacity(shape, 16 * GIB, Load("cpu", 48 * GIB, context=8192))
    assert capacity.conversation == 2 * 8 * 128 * 2 * (8192 + 31 * (4096 + 2048))


def test_the_cache_decides_how_many_sequences_are_computed_at_once() -> None:
    shape = read_shape(SMOLLM2_135M)

    def at_once(cache: int) -> int:
        return plan_capacity(shape, shape.parameters * 2, Load("cpu", 16 * GIB, kv_cache_bytes=cache)).max_num_seqs

    assert at_once(GIB // 4) == (GIB // 4) // (256 * 23040)  # of 256 tokens each, though one of full length fits
    assert at_once(8 * GIB) == 256
