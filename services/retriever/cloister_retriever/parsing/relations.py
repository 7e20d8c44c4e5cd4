"""Relations between the parts of an Office file: which picture, slide or note an id in a part leads to."""

import posixpath
from typing import NamedTuple

from cloister_retriever.parsing.markup import Element, children, parse_xml
from cloister_retriever.parsing.packages import Package

__all__ = ["Relation", "main_part", "picture_id", "related", "relations"]


class Relation(NamedTuple):
    """What leads from one part to another: by which id, what it is (the last word of its type), and where to."""

    id: str
    kind: str
    target: str


def related(package: Package, part: str) -> list[Relation]:
    """What a part leads to within the file, or of ``""`` the file itself; what leads out of it is left where it is."""
    folder, name = posixpath.split(part)
    path = posixpath.join(folder, "_rels", f"{name}.rels")
    if path not in package:
        return []
    return [
        Relation(
            relation.get("Id", ""),
            relation.get("Type", "").rpartition("/")[2],
            posixpath.normpath(posixpath.join("/", folder, relation.get("Target", ""))).lstrip("/"),
        )
        for relation in children(parse_xml(package.read(path)))
        if relation.get("TargetMode") != "External"
    ]


def relations(package: Package, part: str) -> dict[str, str]:
    """Where the ids in a part lead to, as `related`."""
    return {relation.id: relation.target for relation in related(package, part)}


def main_part(package: Package, usual: str) -> str:
    """The part that a document begins with: the one that the file says, else the one it has in most files."""
    said = (one.target for one in related(package, "") if one.kind == "officeDocument" and one.target in package)
    return next(said, usual)


def picture_id(element: Element) -> str | None:
    """The id of the picture that a ``blip`` or an ``imagedata`` shows. One that is linked lies elsewhere: None."""
    return next(
        (value for key, value in element.attrib.items() if key.startswith("{") and key.endswith(("}embed", "}id"))),
        None,
    )
