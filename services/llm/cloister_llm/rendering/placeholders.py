"""Where images go in a prompt: at the placeholders that the model's chat template writes, and nowhere else.

vLLM looks for a placeholder among the ids of a prompt. Content never has the id of an added token
(`cloister_llm.rendering.encoder`), so one that is an added token, as those of all models that are trained with them
are, can only be the template's. Where vLLM does not find one for each image it reads the prompt as text instead,
replaces words in it, and encodes the whole with the model's own tokenizer: there a user who writes ``<image>`` would
have made a placeholder, and one who writes ``<|im_start|>`` a turn. So that never happens.
"""

from collections.abc import Collection
from typing import Any

from cloister_common.errors import InvalidRequest

__all__ = ["keep_placeholders"]


def keep_placeholders(processor: Any, control_ids: Collection[int]) -> None:
    """Has ``processor`` put images at placeholders with an id of ``control_ids`` in them, or refuse the request.

    It is vLLM's for one model (``vllm.multimodal.processing``); the seam is between its models and their base.
    """
    apply = processor._apply_prompt_updates

    def apply_to_ids(token_ids: Any, updates: Any, *rest: Any, **named: Any) -> Any:
        """``updates`` are lists, by kind of media and number of the item, of its updates: one of them is applied."""
        for items in updates.values():
            for item in items:
                for update in item:
                    # Others are places: the beginning of the prompt, or its end.
                    if isinstance(update.target, list | tuple) and not set(update.target).intersection(control_ids):
                        raise _no_place("is written in ordinary text by this model, as anybody could write it")
        return apply(token_ids, updates, *rest, **named)

    def refuse(*_: Any, **__: Any) -> Any:
        raise _no_place("is not written by the model's chat template for each of them")

    processor._apply_prompt_updates = apply_to_ids
    processor._apply_prompt_updates_via_text = refuse


def _no_place(why: str) -> InvalidRequest:
    return InvalidRequest(f"Images cannot be placed safely here: what stands for one {why}.", param="messages")
