"""The items that callers send, as the input of a turn and into conversations, each with what is stored of it."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from cloister_common.ids import new_id
from cloister_common.wire.images import Detail
from cloister_common.wire.requests import Hint
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from cloister_gateway.wire.items import CALL_OF_CALLER, Item
from cloister_gateway.wire.own import (
    Annotation,
    Compaction,
    Dumped,
    FileSearchCall,
    ItemReference,
    OutputRefusal,
    Reasoning,
    Status,
)
from cloister_gateway.wire.parameters import PromptCacheBreakpoint
from cloister_gateway.wire.strict import Object, Text, only

__all__ = [
    "CallId",
    "DataUrl",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionName",
    "InputFile",
    "InputImage",
    "InputItem",
    "InputMessage",
    "InputText",
    "input_item",
]

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
CallId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _is_data_url(url: str) -> str:
    """``url``, if it has the data itself. Raises pydantic's error for what would have to be fetched."""
    if not url.startswith("data:"):
        raise PydanticCustomError(
            "not_fetched",
            "must be a data URL (data:image/png;base64,…): nothing is fetched from elsewhere; send the image itself, "
            "or upload it and send its 'file_id'",
        )
    return url


DataUrl = Annotated[str, AfterValidator(_is_data_url)]


class InputText(Dumped):
    """A text part of an input message. ``output_text`` is what assistant messages of earlier turns carry."""

    type: Annotated[Literal["input_text", "output_text"], only("input_text", "output_text")] = "input_text"
    text: Text
    annotations: Annotated[list[Annotation], Field(fail_fast=True)] | None = None
    logprobs: Annotated[list[Object], Field(fail_fast=True)] | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint = None
    parsed: Any = None

    def as_output(self) -> Item:
        """The part as one of an assistant's message."""
        annotations = [annotation.model_dump() for annotation in self.annotations or []]
        return {"type": "output_text", "text": self.text, "annotations": annotations, "logprobs": self.logprobs or []}


class InputFile(Dumped):
    """A file of a message of the user, whose text stands in the prompt of this turn and of those that follow it.

    Attributes:
        item: What is stored of it, once it has been read (`cloister_gateway.runs.attached`).
    """

    refused: ClassVar[Mapping[str, str]] = {
        "file_url": "Nothing is fetched from elsewhere. Send 'file_id', or 'file_data' with the file itself.",
    }

    type: Literal["input_file"]
    file_id: str | None = Field(None, max_length=128, description="An uploaded file; needs the scope `files`.")
    file_data: str | None = Field(None, description="The file in base64, or as a data URL.")
    filename: Annotated[str, StringConstraints(max_length=255)] | None = Field(None, description="With `file_data`.")
    detail: Annotated[
        Literal["auto", "low", "high"] | None, Hint("It is about pages as images, and files are read as text.")
    ] = None
    prompt_cache_breakpoint: PromptCacheBreakpoint = None
    _item: Item | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.file_id is None) == (self.file_data is None):
            raise PydanticCustomError("one_of_both", "either 'file_id' or 'file_data' must be sent")
        return self

    @property
    def item(self) -> Item:
        if self._item is None:
            raise TypeError("A file is read before it is stored.")
        return self._item

    @item.setter
    def item(self, value: Item) -> None:
        self._item = value


class InputImage(Dumped):
    """An image in a message of the user, or in what a function returned, for models that take images.

    Attributes:
        item: What is stored of it, once it has been read (`cloister_gateway.runs.attached`).
    """

    type: Literal["input_image"]
    image_url: DataUrl | None = Field(None, description="The image as a data URL in base64; others are not fetched.")
    file_id: str | None = Field(None, max_length=128, description="An uploaded file; needs the scope `files`.")
    detail: Detail | None = Field(
        None, description="How large it stays: `low` 512 pixels a side, `high` and `auto` 2,048, `original` 4,096."
    )
    prompt_cache_breakpoint: PromptCacheBreakpoint = None
    _item: Item | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise PydanticCustomError("one_of_both", "either 'image_url' or 'file_id' must be sent")
        return self

    @property
    def item(self) -> Item:
        if self._item is None:
            raise TypeError("An image is read before it is stored.")
        return self._item

    @item.setter
    def item(self, value: Item) -> None:
        self._item = value


def _as_parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return _PARTS.get(kind, "[text]") if isinstance(kind, str) else "[text]"


_PARTS = {"refusal": "[refusal]", "input_file": "[file]", "input_image": "[image]"}


Part = Annotated[
    Annotated[InputText, Tag("[text]")]
    | Annotated[InputFile, Tag("[file]")]
    | Annotated[InputImage, Tag("[image]")]
    | Annotated[OutputRefusal, Tag("[refusal]")],
    Discriminator(_part),
]


class InputMessage(Dumped):
    """A message of the input."""

    type: Literal["message"] = "message"
    id: str | None = Field(None, max_length=128)
    status: Status | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[list[Part], Field(min_length=1, max_length=64, fail_fast=True), BeforeValidator(_as_parts)]
    phase: Literal["commentary", "final_answer"] | None = None

    @model_validator(mode="after")
    def _only_assistants_refuse(self) -> Self:
        if self.role != "assistant" and any(isinstance(part, OutputRefusal) for part in self.content):
            raise PydanticCustomError("refusal_of_others", "only assistant messages have parts of type 'refusal'")
        return self

    @model_validator(mode="after")
    def _only_users_attach(self) -> Self:
        attached = next((part.type for part in self.content if isinstance(part, InputFile | InputImage)), None)
        if self.role != "user" and attached is not None:
            raise PydanticCustomError("file_of_others", f"only messages of role 'user' have parts of type '{attached}'")
        return self

    def files(self) -> list[tuple[int, InputFile]]:
        """The files among the parts, each with its place."""
        return [(place, part) for place, part in enumerate(self.content) if isinstance(part, InputFile)]

    def images(self) -> list[tuple[int, InputImage]]:
        """The images among the parts, each with its place."""
        return [(place, part) for place, part in enumerate(self.content) if isinstance(part, InputImage)]

    def as_item(self) -> Item:
        """What is stored of it, less the id."""
        if self.role != "assistant":
            content = [
                {"type": "input_text", "text": part.text} if isinstance(part, InputText) else part.item
                for part in self.content
                if isinstance(part, InputText | InputFile | InputImage)
            ]
            return {"type": "message", "role": self.role, "status": "completed", "content": content}
        said = [part for part in self.content if isinstance(part, InputText | OutputRefusal)]
        content = [part.as_output() if isinstance(part, InputText) else part.model_dump() for part in said]
        status = "incomplete" if self.status == "incomplete" else "completed"
        return {"type": "message", "role": self.role, "status": status, "content": content, "phase": self.phase}


class FunctionCall(Dumped):
    """A call of a function that the model made earlier, sent back by who keeps the history."""

    type: Literal["function_call"]
    id: str | None = Field(None, max_length=128)
    status: Status | None = None
    call_id: CallId
    name: FunctionName
    arguments: Text
    parsed_arguments: Any = None


class OutputText(InputText):
    """A text part of what a function returned."""

    type: Annotated[Literal["input_text"], only("input_text")]


def _kind_of_output(part: Any) -> str:
    return "[image]" if _part(part) == "[image]" else "[text]"


OutputPart = Annotated[
    Annotated[OutputText, Tag("[text]")] | Annotated[InputImage, Tag("[image]")], Discriminator(_kind_of_output)
]


def _form(output: Any) -> str:
    return "[text]" if isinstance(output, str) else "[parts]"


class FunctionCallOutput(Dumped):
    """What a called function returned: text, or parts of text and images."""

    type: Literal["function_call_output"]
    id: str | None = Field(None, max_length=128)
    status: Status | None = None
    call_id: CallId
    output: Annotated[
        Annotated[Text, Tag("[text]")]
        | Annotated[list[OutputPart], Field(min_length=1, max_length=64, fail_fast=True), Tag("[parts]")],
        Discriminator(_form),
    ]

    def images(self) -> list[tuple[int, InputImage]]:
        """The images among the parts, each with its place."""
        parts = [] if isinstance(self.output, str) else self.output
        return [(place, part) for place, part in enumerate(parts) if isinstance(part, InputImage)]

    def as_item(self) -> Item:
        """What is stored of it, less the id."""
        output: str | list[Item]
        if isinstance(self.output, str):
            output = self.output
        else:
            output = [
                part.item if isinstance(part, InputImage) else {"type": "input_text", "text": part.text}
                for part in self.output
            ]
        return {"type": self.type, "status": "completed", "call_id": self.call_id, "output": output}


def _kind(item: Any) -> str:
    if not isinstance(item, dict):
        return f"[{getattr(item, 'type', None) or 'item_reference'}]"
    # OpenAI lets both leave their type out.
    untyped = "item_reference" if "id" in item and "role" not in item else "message"
    return f"[{item.get('type') or untyped}]"


InputItem = Annotated[
    Annotated[InputMessage, Tag("[message]")]
    | Annotated[FunctionCall, Tag("[function_call]")]
    | Annotated[FunctionCallOutput, Tag("[function_call_output]")]
    | Annotated[FileSearchCall, Tag("[file_search_call]")]
    | Annotated[Reasoning, Tag("[reasoning]")]
    | Annotated[Compaction, Tag("[compaction]")]
    | Annotated[ItemReference, Tag("[item_reference]")],
    # (In brackets, a kind is no part of a field's path; see `cloister_common.validation`.)
    Discriminator(
        _kind,
        custom_error_type="unsupported_type",
        custom_error_message="only message, function_call, function_call_output, file_search_call, reasoning, "
        "compaction, item_reference is supported",
    ),
]
"""An item as a caller sends it; one without a ``type`` is a message."""


def input_item(sent: InputItem) -> Item:
    """An item as it is stored, with an id of its own.

    Items that say something only where they are looked up, references and what is sealed, are
    `cloister_gateway.runs.inputs`'s.
    """
    match sent:
        case InputMessage():
            return {"id": new_id("msg_"), **sent.as_item()}
        case FunctionCall():
            said = {"call_id": sent.call_id, "name": sent.name, "arguments": sent.arguments}
            return {"id": new_id(CALL_OF_CALLER), "type": sent.type, "status": "completed", **said}
        case FunctionCallOutput():
            return {"id": new_id("fco_"), **sent.as_item()}
        case FileSearchCall():
            return {"id": new_id("fs_"), **sent.as_item()}
        case Reasoning():
            return {"id": new_id("rs_"), **sent.as_item(sent.text())}
    raise TypeError(f"An item of type '{sent.type}' is looked up before it is stored.")
