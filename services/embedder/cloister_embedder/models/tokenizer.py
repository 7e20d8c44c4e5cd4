"""Tokenising that never cuts, never pads and never lets text become a special token.

sentence-transformers' own tokenizer cuts what is too long, and changing that changes a state shared by all threads.
This is a copy of its Rust tokenizer with cutting and padding off: reading it from several threads is safe, and the
token counts are those of the model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cloister_common.settings import SettingsError
from cloister_common.wire.embeddings import InputType

from cloister_embedder.models.encoder import Tokens

__all__ = ["TextTokenizer"]


class TextTokenizer:
    """Texts, or pairs of texts, to `Tokens`, and batches of those to padded arrays.

    Args:
        name: The model's public name, for the error.
        tokenizer: The tokenizer of transformers.
        prompts: What stands before a text by what it is, ``None`` for one that is neither query nor passage; mostly
            nothing.
    """

    def __init__(self, name: str, tokenizer: Any, *, prompts: Mapping[InputType | None, str] | None = None) -> None:
        from tokenizers import Tokenizer  # comes with the models

        if not getattr(tokenizer, "is_fast", False):
            raise SettingsError(f"Model '{name}': its folder has no tokenizer.json. Add the fast tokenizer's file.")
        self._tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A document that spells "[SEP]" contains five characters, not the end of a text.
        self._tokenizer.encode_special_tokens = True
        self._prompts = prompts or {}
        self._pad_id: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._pad_left = tokenizer.padding_side == "left"
        self._has_types = "token_type_ids" in tokenizer.model_input_names

    def prepare(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], input_type: InputType | None = None
    ) -> list[Tokens]:
        """Tokenises ``texts``, prefix and special tokens added, nothing cut. Safe to call from any thread."""
        prompt = self._prompts.get(input_type, "")
        inputs = [prompt + text if isinstance(text, str) else text for text in texts]
        return [
            Tokens(
                np.asarray(encoding.ids, np.int32).tobytes(),
                np.asarray(encoding.type_ids, np.int32).tobytes()
                if self._has_types and any(encoding.type_ids)
                else b"",
                len(encoding.ids),
            )
            for encoding in self._tokenizer.encode_batch_fast(inputs)
        ]

    def pad(self, batch: Sequence[Tokens]) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
        """A batch as the model's inputs, each of shape (texts, longest), int64."""
        shape = (len(batch), max(tokens.length for tokens in batch))
        ids = np.full(shape, self._pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        types = np.zeros(shape, np.int64)
        for row, tokens in enumerate(batch):
            columns = slice(shape[1] - tokens.length, None) if self._pad_left else slice(0, tokens.length)
            ids[row, columns] = np.frombuffer(tokens.ids, np.int32)
            mask[row, columns] = 1
            if tokens.types:
                types[row, columns] = np.frombuffer(tokens.types, np.int32)
        arrays = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            arrays["token_type_ids"] = types
        return arrays
