"""The thin seam between `cloister_llm.rendering` and vLLM: its Hugging Face renderer with our rendering inside.

vLLM resolves the template, its variables and the message format as before, and runs us in its own thread pool under
its own time limit. Only the step from messages, or a prompt, to token ids is ours, and that tools, and images that they
return, are written out where the template has no place for them. The only file of this package that imports vLLM.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloister_common.errors import CloisterError
from vllm.exceptions import VLLMValidationError
from vllm.renderers import hf
from vllm.utils.async_utils import make_async

from cloister_llm.calls.vllm_parser import install
from cloister_llm.rendering.encoder import PieceEncoder
from cloister_llm.rendering.placeholders import keep_placeholders
from cloister_llm.rendering.renderer import ApplyTemplate, ChatRenderer
from cloister_llm.rendering.returned import returns_images, shown_behind
from cloister_llm.rendering.tools import has_place_for_tools, uses_tools, written_out

__all__ = ["GuardedRenderer"]

_NOT_TEMPLATE_VARIABLES = {"tokenize", "return_dict", "chat_template", "cohere_format"}
"""Arguments vLLM passes with every request that are no variables of a Hugging Face template."""


class GuardedRenderer(hf.HfRenderer):  # type: ignore[misc]  # vLLM's classes are untyped here
    """vLLM's renderer for Hugging Face tokenizers, in which content cannot become control tokens."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__(config, tokenizer)
        install()  # vLLM composes its parsers of answers for a renderer that is there
        if tokenizer is None or not tokenizer.is_fast:
            raise ValueError("The model needs a fast tokenizer (tokenizer.json); content is kept apart only with one.")
        if config.model_config.enable_prompt_embeds or self.use_unified_vision_chunk:
            raise ValueError("Prompt embeddings and video chunks are not supported by this renderer.")
        self._chat = ChatRenderer(PieceEncoder(tokenizer.backend_tokenizer.to_str()))
        if self.mm_processor is not None:
            keep_placeholders(self.mm_processor, self._chat.encoder.control_ids)
        self._shows_returned: dict[str, bool] = {}  # by chat template, of which a model has one or two
        self._apply_chat_template_async = make_async(self._render, executor=self._executor)
        begin = tokenizer.bos_token_id
        self._begin = [begin] if begin is not None and tokenizer("")["input_ids"][:1] == [begin] else []

    def render_messages(self, messages: Any, params: Any) -> Any:
        """Refused: the server renders with `render_messages_async`, and this path would not be guarded."""
        raise NotImplementedError("Chats are rendered through render_messages_async only.")

    def warmup(self, chat_params: Any) -> None:
        """Left out: vLLM would warm up the refused path, and warn at every start that it failed."""

    def _render(
        self,
        model_config: Any,
        tokenizer: Any,
        conversation: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        **arguments: Any,
    ) -> list[int]:
        variables = {name: value for name, value in arguments.items() if name not in _NOT_TEMPLATE_VARIABLES}
        template = arguments.get("chat_template")

        apply_template = _applying(model_config, tokenizer, template, variables)
        with _vllms_errors():
            if uses_tools(conversation, tools):
                text = hf.resolve_chat_template(tokenizer, template, tools, model_config=model_config)
                if text is not None and not has_place_for_tools(text):
                    conversation, tools = written_out(conversation, tools), None
                elif text is not None and returns_images(conversation):
                    if text not in self._shows_returned:
                        apply_alone = _applying(model_config, tokenizer, text, {"add_generation_prompt": True})
                        self._shows_returned[text] = self._chat.shows_returned(apply_alone)
                    if not self._shows_returned[text]:
                        conversation = shown_behind(conversation)
            return self._chat.render(conversation, tools, variables, apply_template)

    def _process_multimodal(self, *given: Any, **named: Any) -> Any:
        """Images into the prompt; see `cloister_llm.rendering.placeholders`."""
        with _vllms_errors():
            return super()._process_multimodal(*given, **named)

    def _tokenize_prompt(self, prompt: Any, params: Any) -> Any:
        """The prompt of a completion, or a text to count: all of it content, behind what begins every text."""
        with _vllms_errors():
            ids = self._chat.encoder.encode_prompt(prompt["prompt"])
        return self._build_tokens_prompt([*self._begin, *ids] if params.add_special_tokens else ids, prompt)


def _applying(model_config: Any, tokenizer: Any, template: str | None, variables: Mapping[str, Any]) -> ApplyTemplate:
    def apply_template(messages: list[dict[str, Any]], definitions: list[dict[str, Any]] | None) -> str:
        text: str = hf.safe_apply_chat_template(
            model_config,
            tokenizer,
            messages,
            tools=definitions,
            chat_template=template,
            tokenize=False,
            **variables,
        )
        return text

    return apply_template


@contextmanager
def _vllms_errors() -> Iterator[None]:
    try:
        yield
    except CloisterError as error:
        raise VLLMValidationError(error.message, parameter=error.param) from error
