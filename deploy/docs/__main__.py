"""``make docs``: writes every made document that is not as it should be."""

import sys
from collections.abc import Callable
from pathlib import Path

from deploy.docs import parameters, schema, tables
from deploy.docs.settings import Undescribed
from deploy.helm import values

__all__ = ["DOCUMENTS", "main"]


def _readme(service: str) -> Callable[[], str]:
    return lambda: tables.readme(service)


DOCUMENTS: dict[Path, Callable[[], str]] = {
    **{tables.SERVICES / service / "README.md": _readme(service) for service in tables.CLASSES},
    parameters.PAGE: parameters.page,
    values.CHART / "README.md": values.readme,
    values.CHART / "values.schema.json": schema.values_schema,
}
"""The text that each made document should have."""


def main() -> int:
    """Returns the exit status: 1 where a setting lacks a sentence, or a README the place for its table."""
    try:
        made = {path: text() for path, text in DOCUMENTS.items()}
    except (Undescribed, tables.Unmarked) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for path, text in made.items():
        if path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path} is made anew\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
