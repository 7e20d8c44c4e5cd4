"""DSPy, which asks through LiteLLM."""

import dspy
from flows import API_KEY, BASE_URL, MODEL, flow, run

dspy.configure(
    lm=dspy.LM(f"openai/{MODEL}", api_base=BASE_URL, api_key=API_KEY, max_tokens=128, cache=False, num_retries=0)
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
        max_tokens=64,
        cache=False,
        num_retries=0,
    )
    assert model("Say hello.")


@flow
def fills_a_signature() -> None:
    with dspy.context(adapter=dspy.JSONAdapter()):
        assert isinstance(dspy.Predict("text -> positive: bool")(text="I like it.").positive, bool)


run()
