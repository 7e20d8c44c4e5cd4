"""DSPy, which asks through LiteLLM."""

import json

import dspy
from flows import API_KEY, BASE_URL, MODEL, flow, run

dspy.configure(
    lm=dspy.LM(f"openai/{MODEL}", api_base=BASE_URL, api_key=API_KEY, max_tokens=16, cache=False, num_retries=0)
)


@flow
def answers() -> None:
    (answer,) = dspy.settings.lm("Say hello.")
    assert answer


@flow
def answers_by_responses() -> None:
    model = dspy.LM(
        f"openai/{MODEL}",
        model_type="responses",
        api_base=BASE_URL,
        api_key=API_KEY,
        max_tokens=16,
        cache=False,
        num_retries=0,
    )
    assert model("Say hello.")


@flow
def answers_in_a_structure() -> None:
    # (What fills its signatures is up to the model: the small one does not follow its prompts.)
    schema = {
        "type": "object",
        "properties": {"positive": {"type": "boolean"}},
        "required": ["positive"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema, "strict": True}}
    (answer,) = dspy.settings.lm("I like it.", response_format=form)
    assert isinstance(json.loads(answer)["positive"], bool)


run()
