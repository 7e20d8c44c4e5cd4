"""What a request asks for that not every model can: refused by name, before a pod is asked."""

from cloister_common.errors import UnsupportedParameter

from cloister_gateway.models.catalog import ChatModel

__all__ = ["check_functions"]


def check_functions(model: ChatModel, *, given: bool, param: str = "tools") -> None:
    """Refuses functions of a model of which the operator says that it calls none.

    Args:
        model: The model.
        given: Whether the request brings functions.
        param: Where it does.

    Raises:
        UnsupportedParameter: As OpenAI refuses it, by the name of the parameter.
    """
    if given and not model.tools:
        raise UnsupportedParameter(
            param,
            f"Unsupported parameter: '{param}' is not supported with the model '{model.name}', which calls no "
            "functions. Leave the functions out, or ask another model.",
        )
