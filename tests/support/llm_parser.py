"""Runs in vLLM's environment: reads answers as a pod's parsers do, whole and token by token, without a model.

stdin is a JSON list of cases: ``text`` that a model wrote, the ``tools`` and ``tool_choice`` of the request, and the
names of the parsers. stdout's last line is a JSON list with what was read of each: ``whole`` and ``streamed``, each
reasoning, content and calls, and the ``schema`` that the answer is constrained to.
"""

import json
import sys
from typing import Any

from cloister_llm.calls.vllm_parser import install

TOKENS = ["<think>", "</think>", "<|python_tag|>", "<tool_call>", "</tool_call>"]
"""That parsers look for in the tokenizer."""


def main() -> None:
    """Reads all cases with one tokenizer, the folder of which is the argument."""
    from transformers import AutoTokenizer
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.parser import ParserManager

    install()
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
    tokenizer.add_tokens(TOKENS)
    found = []
    for case in json.load(sys.stdin):
        parser_class = ParserManager.get_parser(
            tool_parser_name=case["tool_parser"],
            reasoning_parser_name=case.get("reasoning_parser"),
            enable_auto_tools=True,
            model_name="model",
            tokenizer=tokenizer,
        )
        fields = {name: case[name] for name in ("tools", "tool_choice", "parallel_tool_calls") if name in case}
        request = ChatCompletionRequest(model="model", messages=[{"role": "user", "content": "hi"}], **fields)

        def parser(made: Any = parser_class, asked: Any = request) -> Any:
            return made(tokenizer, asked.tools, chat_template_kwargs={}, model_config=None)

        request = parser().adjust_request(request)
        schema = request.structured_outputs.json if request.structured_outputs else None
        reasoning, content, calls = parser().parse(case["text"], request, enable_auto_tools=True)
        whole = [reasoning, content, [[call.name, call.arguments] for call in calls or ()]]
        found.append(
            {"whole": whole, "streamed": streamed(tokenizer, parser(), request, case["text"]), "schema": schema}
        )
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def streamed(tokenizer: Any, parser: Any, request: Any, text: str) -> list[Any]:
    """As `main` says, from the deltas."""
    reasoning, content, calls = "", "", []
    ids = tokenizer.encode(text, add_special_tokens=False)
    shown = ""
    for at in range(len(ids)):
        now = tokenizer.decode(ids[: at + 1])
        delta = parser.parse_delta(
            delta_text=now[len(shown) :],
            delta_token_ids=[ids[at]],
            request=request,
            prompt_token_ids=[1],
            finished=at == len(ids) - 1,
        )
        shown = now
        if delta is None:
            continue
        reasoning += delta.reasoning or ""
        content += delta.content or ""
        for call in delta.tool_calls or ():
            if call.index == len(calls):
                calls.append([call.function.name, ""])
            calls[call.index][1] += call.function.arguments or ""
    return [reasoning or None, content or None, calls]


if __name__ == "__main__":
    main()
