"""Settings of the embedder. Every key is documented in the service's README."""

from pathlib import Path
from typing import Literal, Self

from cloister_common.settings import ServiceSettings, Settings
from cloister_common.values import MOST_VALUES
from pydantic import Field, model_validator

__all__ = ["ComputeSettings", "EmbedderSettings", "ModelSettings", "QueueSettings"]


class ModelSettings(Settings):
    """One model folder and how it runs."""

    kind: Literal["text", "image", "rerank"] = Field(
        description="Text vectors, CLIP's vectors, or a cross-encoder with one output that reranks."
    )
    path: Path = Field(
        description="A local sentence-transformers folder. Weights must be safetensors; pickles and code of the "
        "folder's own are refused."
    )
    dtype: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto",
        description="What it computes in. `auto` measures at start what is fastest here, and takes the less exact only "
        "where that is worth it. `int8` (weights and inputs of matrix products in bytes) is for a CPU.",
    )
    prompts: dict[Literal["query", "passage", "default"], str] = Field(
        {},
        description="What the model was trained to find before a query, before a passage, and before a text of which a "
        "caller does not say what it is; left out, what the folder's `config_sentence_transformers.json` says "
        "(`prompts`, `default_prompt_name`). For a folder that does not: e5 has `query: ` and `passage: `.",
    )
    max_batch_tokens: int | None = Field(
        None,
        ge=256,
        description="Padded tokens of one forward pass; left out, 65,536 on a GPU, and on a CPU what it computes in "
        "0.15 s, from 1,024 to 8,192. Larger is faster for uploads; a query waits for at most one such pass.",
    )
    max_batch_texts: int = Field(128, ge=1, description="Texts of one forward pass.")
    matryoshka_dimensions: list[int] | None = Field(
        None,
        description="To how many dimensions callers may have the vectors cut, for models trained for that; left out, "
        "what the folder's `config.json` says (`matryoshka_dimensions`, or `is_matryoshka` for any number).",
    )
    sha256: dict[str, str] = Field(
        {}, description="Digests of files in the folder, by name, which are checked before anything is loaded."
    )


class QueueSettings(Settings):
    """How texts of many callers become batches."""

    window_seconds: float = Field(
        0.002, ge=0, le=1, description="Seconds that an idle model waits for more callers after the first text."
    )
    interactive_texts: int = Field(8, ge=1, description="Requests of up to so many texts go before larger ones.")
    max_interactive_texts: int = Field(1024, ge=1, description="Waiting texts of small requests before 429.")
    max_bulk_texts: int = Field(16_384, ge=2048, description="Waiting texts of large requests before 429.")

    @model_validator(mode="after")
    def _every_request_fits_its_lane(self) -> Self:
        if self.max_interactive_texts < self.interactive_texts:
            raise ValueError("max_interactive_texts is below interactive_texts: such requests would get 429 for ever")
        return self


class ComputeSettings(Settings):
    """What the models compute on."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto` is a GPU where one is visible.")
    threads: int | None = Field(
        None, ge=1, description="Threads of one forward pass on a CPU; left out, the cores this container may use."
    )
    measurements: Path | None = Field(
        None,
        description="A folder for what was measured at start, by model and machine, so that the next start need not; "
        "left out, each start measures: about a second for each model.",
    )


class EmbedderSettings(ServiceSettings):
    """The embedder's settings file."""

    token_file: Path = Field(description="The internal tokens this service accepts, one a line.")
    models: dict[str, ModelSettings] = Field(min_length=1, description="The models, by their public names.")
    queue: QueueSettings = QueueSettings()
    compute: ComputeSettings = ComputeSettings()
    max_body_bytes: int = Field(8 * 1024 * 1024, ge=1024, description="Larger request bodies are refused with 413.")
    max_json_values: int = Field(
        MOST_VALUES, ge=1000, description="Bodies of more JSON values are refused with 413 before they are read."
    )
