"""What ``config.json`` of published models says of their size, and what their authors say of it in numbers."""

from typing import Any

from tests.unit.llm.published.hybrids import (
    BAMBA_9B,
    FALCON_H1_7B,
    FALCON_MAMBA_7B,
    JAMBA,
    KIMI_LINEAR,
    LFM2_1_2B,
    MAMBA_2_780M,
    MINIMAX_TEXT_01,
    NEMOTRON_NANO_9B,
    QWEN_3_NEXT_80B,
)
from tests.unit.llm.published.text import DEEPSEEK_V3, FALCON_7B, GLM_4_9B, LLAMA_31_70B, PHI_3_MINI, QWEN_3_30B_A3B
from tests.unit.llm.published.vision import (
    GEMMA_3_27B,
    LLAMA_4_SCOUT,
    LLAVA_15_7B,
    MISTRAL_SMALL_31,
    QWEN_2_VL_7B,
    QWEN_25_VL_7B,
)

__all__ = [
    "BAMBA_9B",
    "BILLIONS",
    "DEEPSEEK_V3",
    "FALCON_7B",
    "FALCON_H1_7B",
    "FALCON_MAMBA_7B",
    "GEMMA_3_27B",
    "GLM_4_9B",
    "JAMBA",
    "KIMI_LINEAR",
    "LFM2_1_2B",
    "LLAMA_4_SCOUT",
    "LLAMA_31_70B",
    "LLAVA_15_7B",
    "MAMBA_2_780M",
    "MINIMAX_TEXT_01",
    "MISTRAL_SMALL_31",
    "NEMOTRON_NANO_9B",
    "PARAMETERS",
    "PHI_3_MINI",
    "QWEN_2_VL_7B",
    "QWEN_3_30B_A3B",
    "QWEN_3_NEXT_80B",
    "QWEN_25_VL_7B",
]

PARAMETERS: list[tuple[str, dict[str, Any], int]] = [
    ("jamba", JAMBA, 51_570_323_328),
    ("nemotron-nano-9b-v2", NEMOTRON_NANO_9B, 8_888_227_328),
    ("deepseek-v3", DEEPSEEK_V3, 671_026_404_352),
    ("qwen3-30b-a3b", QWEN_3_30B_A3B, 30_532_122_624),
    ("qwen3-next-80b", QWEN_3_NEXT_80B, 79_674_391_296),
    ("lfm2-1.2b", LFM2_1_2B, 1_170_340_608),
    ("qwen2-vl-7b", QWEN_2_VL_7B, 8_291_375_616),
    ("llava-1.5-7b", LLAVA_15_7B, 7_063_427_072),
    ("gemma-3-27b", GEMMA_3_27B, 27_432_406_640),
    ("mistral-small-3.1", MISTRAL_SMALL_31, 24_011_361_280),
    ("phi-3-mini", PHI_3_MINI, 3_821_079_552),
    ("falcon-7b", FALCON_7B, 6_921_720_704),
    ("mamba2-780m", MAMBA_2_780M, 780_161_280),
    ("llama-4-scout", LLAMA_4_SCOUT, 108_641_793_536),
    ("qwen2.5-vl-7b", QWEN_25_VL_7B, 8_292_166_656),
    ("bamba-9b", BAMBA_9B, 9_780_235_392),
    ("llama-3.1-70b", LLAMA_31_70B, 70_553_706_496),
]
"""Of the published safetensors files, without heads for several tokens at a time."""

BILLIONS = [("falcon-h1-7b", FALCON_H1_7B, 7.59, 7.59), ("kimi-linear", KIMI_LINEAR, 48.0, 3.5)]
"""Of the model cards: all, and those that a token uses."""
