"""LiteLLM as a client."""

import litellm
from flows import API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, flow, run

ACCESS = {"api_base": BASE_URL, "api_key": API_KEY, "num_retries": 0}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]},
    },
}
ASKED = [{"role": "user", "content": "What is the weather in Oslo?"}]


@flow
def answers() -> None:
    answer = litellm.completion(f"openai/{MODEL}", messages=ASKED, max_tokens=6, **ACCESS)
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


@flow
def streams() -> None:
    chunks = litellm.completion(
        f"openai/{MODEL}", messages=ASKED, max_tokens=6, stream=True, stream_options={"include_usage": True}, **ACCESS
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@flow
def calls_a_tool_and_goes_on() -> None:
    called = litellm.completion(
        f"openai/{MODEL}",
        messages=ASKED,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=96,
        **ACCESS,
    )
    message = called.choices[0].message
    calls = message.tool_calls
    assert calls[0].function.name == "weather"
    said = [{"role": "tool", "tool_call_id": call.id, "content": "It rains."} for call in calls]
    again = litellm.completion(
        f"openai/{MODEL}",
        messages=[*ASKED, message.model_dump(), *said],
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=6,
        **ACCESS,
    )
    assert again.choices[0].message.content is not None


@flow
def answers_by_responses() -> None:
    answer = litellm.responses(model=f"openai/{MODEL}", input="Say hello.", max_output_tokens=6, **ACCESS)
    assert answer.output
    events = litellm.responses(model=f"openai/{MODEL}", input="Say hello.", max_output_tokens=6, stream=True, **ACCESS)
    assert [event.type for event in events][-1] in {"response.completed", "response.incomplete"}


@flow
def completes_a_text() -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}", prompt="Once upon a time", max_tokens=8, **ACCESS
    )
    assert answer.choices[0].text


@flow
def embeds() -> None:
    answer = litellm.embedding(f"openai/{EMBEDDING_MODEL}", input=["a cat"], **ACCESS)
    assert len(answer.data[0]["embedding"]) == 384


run()
