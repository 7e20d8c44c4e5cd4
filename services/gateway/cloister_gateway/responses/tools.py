"""Tools of a turn: what a caller may send, and what it means for the turn.

The server searches by itself, before the model is asked; functions are the caller's, and called by the model. So

    ``tool_choice``                      searches    functions
    ``auto``                             yes         may be called
    ``required``                         yes         must be called, unless there is a search, which is a call too
    ``none``                             no          are not shown to the model
    ``{"type": "file_search"}``          yes         are not shown to the model
    ``{"type": "function", …}``          no          this one must be called
    ``{"type": "allowed_tools", …}``     as its ``mode`` says, of the tools that it names
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from cloister_common.errors import InvalidRequest
from cloister_common.wire.filters import Filter
from cloister_common.wire.requests import Extension, Hint, hints_of
from cloister_common.wire.search import RANKERS, HybridSearch, Ranker
from pydantic import AfterValidator, Field, StringConstraints, Tag
from pydantic_core import PydanticCustomError

from cloister_gateway.wire.inputs import FunctionName
from cloister_gateway.wire.strict import Strict, by_type, only
from cloister_gateway.wire.tools import Function, check_named

__all__ = ["FileSearchTool", "FunctionTool", "Offered", "RankingOptions", "ToolChoice", "Tools", "offered"]

_MOST_TOOLS = 128


class RankingOptions(Strict):
    """How search results are scored."""

    ranker: Annotated[Ranker, only(*RANKERS)] = "auto"
    score_threshold: float | None = Field(None, ge=0, le=1)
    hybrid_search: HybridSearch | None = None


class FileSearchTool(Strict):
    """Search in vector stores. The server always searches; the model is not asked whether to."""

    type: Literal["file_search"]
    vector_store_ids: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=128)]],
        Field(min_length=1, max_length=16, fail_fast=True),
    ]
    max_num_results: int | None = Field(None, ge=1, le=50)
    filters: Filter | None = None
    ranking_options: RankingOptions | None = None
    rewrite_query: Annotated[bool | None, Extension()] = Field(
        None,
        description="Whether a chat model writes one query more from the conversation, where the operator has named "
        "one for that; by default as the operator has set it. `queries` of the `file_search_call` has it.",
    )


class FunctionTool(Function):
    """A function that the model may call."""

    refused: ClassVar[Mapping[str, str]] = {
        "output_schema": "What a function returns is not checked here. Leave it out.",
    }

    type: Literal["function"]
    allowed_callers: Annotated[
        list[Annotated[Literal["direct"], only("direct")]] | None,
        Field(fail_fast=True),
        Hint("The model calls functions itself, and nothing else does."),
    ] = None
    defer_loading: Annotated[
        Literal[False] | None, only(False), Hint("All functions are shown to the model from the beginning.")
    ] = None

    def declaration(self) -> dict[str, Any]:
        """The same in the words of Chat Completions."""
        return {
            "type": "function",
            "function": self.model_dump(exclude={"type", *hints_of(FunctionTool)}, exclude_none=True),
        }


def _one_search(tools: "list[FileSearchTool | FunctionTool]") -> "list[FileSearchTool | FunctionTool]":
    if sum(tool.type == "file_search" for tool in tools) > 1:
        raise PydanticCustomError("one_search", "only one 'file_search' is supported; it takes several vector stores")
    return tools


_Tool = Annotated[
    Annotated[FunctionTool, Tag("[function]")] | Annotated[FileSearchTool, Tag("[file_search]")],
    by_type("function", "file_search"),
]
Tools = Annotated[list[_Tool], Field(max_length=_MOST_TOOLS, fail_fast=True), AfterValidator(_one_search)]


class FunctionChoice(Strict):
    """The function that must be called, or one that may be."""

    type: Literal["function"]
    name: FunctionName


class SearchChoice(Strict):
    """The search."""

    type: Literal["file_search"]


_Named = Annotated[
    Annotated[FunctionChoice, Tag("[function]")] | Annotated[SearchChoice, Tag("[file_search]")],
    by_type("function", "file_search"),
]


class AllowedTools(Strict):
    """Those of the tools that may be used in this turn."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[_Named], Field(min_length=1, max_length=_MOST_TOOLS, fail_fast=True)]


_Mode = Annotated[Literal["auto", "none", "required"], only("auto", "none", "required")]
ToolChoice = Annotated[
    Annotated[_Mode, Tag("[mode]")]
    | Annotated[FunctionChoice, Tag("[function]")]
    | Annotated[SearchChoice, Tag("[file_search]")]
    | Annotated[AllowedTools, Tag("[allowed_tools]")],
    by_type("function", "file_search", "allowed_tools", plain="mode"),
]


class Offered(NamedTuple):
    """What there is in a turn.

    Attributes:
        searches: Where the server searches.
        functions: What the model may call.
        choice: Whether it must, in the words of Chat Completions.
    """

    searches: list[FileSearchTool]
    functions: list[FunctionTool]
    choice: str | dict[str, Any] = "auto"

    @property
    def forced(self) -> bool:
        """Whether the model must call a function."""
        return self.choice != "auto"


def offered(tools: Sequence[FileSearchTool | FunctionTool] | None, choice: ToolChoice | None) -> Offered:
    """What ``tool_choice`` makes of ``tools``.

    Raises:
        InvalidRequest: It names what is not there.
    """
    tools = tools or []
    searches = [tool for tool in tools if isinstance(tool, FileSearchTool)]
    functions = [tool for tool in tools if isinstance(tool, FunctionTool)]
    names = {tool.name for tool in functions}
    match choice:
        case None | "auto":
            return Offered(searches, functions)
        case "none":
            return Offered([], [])
        case "required":
            if not tools:
                raise InvalidRequest("'tool_choice' is 'required', but there are no 'tools'.", param="tool_choice")
            return _required(searches, functions)
        case FunctionChoice():
            check_named(choice.name, names, param="tool_choice.name")
            return Offered([], functions, {"type": "function", "function": {"name": choice.name}})
        case SearchChoice():
            _check_search(searches, "tool_choice")
            return Offered(searches, [])
    allowed = set()
    for place, named in enumerate(choice.tools):
        if isinstance(named, FunctionChoice):
            check_named(named.name, names, param=f"tool_choice.tools[{place}].name")
            allowed.add(named.name)
        else:
            _check_search(searches, f"tool_choice.tools[{place}]")
    searches = searches if any(isinstance(named, SearchChoice) for named in choice.tools) else []
    functions = [tool for tool in functions if tool.name in allowed]
    return _required(searches, functions) if choice.mode == "required" else Offered(searches, functions)


def _required(searches: list[FileSearchTool], functions: list[FunctionTool]) -> Offered:
    return Offered(searches, functions, "auto" if searches else "required")


def _check_search(searches: list[FileSearchTool], param: str) -> None:
    if not searches:
        raise InvalidRequest(
            f"'{param}' asks for 'file_search', which is not in 'tools'. Add it there.", param=f"{param}.type"
        )
