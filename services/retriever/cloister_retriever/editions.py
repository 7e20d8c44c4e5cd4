"""Editions of a vector store: its passages as one embedding model and one version of this program have made them.

A store is searched in one edition. While it is embedded anew a second is filled beside, under keys and in a place of
its own; then the other way round, until one of both is given up. The first edition of a store has the number 0, and
lies where stores lay before there were editions.
"""

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

__all__ = ["Edition", "Place", "in_edition"]


class Edition(BaseModel):
    """One edition: its number within the store, and the embedding model of its vectors."""

    model_config = ConfigDict(frozen=True)

    number: int = 0
    model: str


class Place(NamedTuple):
    """Where the passages of one edition of a store lie, in every index and in the object store."""

    store_id: str
    edition: int = 0

    @property
    def name(self) -> str:
        """What stands there: 64 letters, digits and underscores at most."""
        return in_edition(self.store_id, self.edition, joint="_")


def in_edition(label: str, edition: int, *, joint: str = "-") -> str:
    """A name that is another in each edition, and in the first the bare one."""
    return f"{label}{joint}{edition}" if edition else label
