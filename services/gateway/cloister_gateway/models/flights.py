"""What is under way at the pods of every model; see `cloister_gateway.models.flight`."""

import math
from collections.abc import Sequence
from contextlib import nullcontext

from cloister_common.flight import Flight, told
from cloister_common.ids import new_id

from cloister_gateway.models.catalog import Catalog, ChatModel
from cloister_gateway.models.flight import ModelFlight, Resting
from cloister_gateway.models.holds import Capacity
from cloister_gateway.models.pods import Pod
from cloister_gateway.settings import AdmissionSettings

__all__ = ["Flights"]


class Flights:
    """Those of all models.

    Args:
        catalog: The models.
        settings: As `ModelFlight`.
        resting: As `ModelFlight`.
    """

    def __init__(self, catalog: Catalog, settings: AdmissionSettings, resting: Resting = nullcontext) -> None:
        self._catalog = catalog
        self._settings = settings
        self._resting = resting
        self._flights: dict[str, ModelFlight] = {}
        self._gateway = new_id("gw_")

    def of(self, model: str) -> ModelFlight:
        """That of ``model``, which is its base's where it is an adapter: the same pods serve both."""
        name = self._catalog.get(model).base or model
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = ModelFlight(name, self._settings, self._resting)
        return flight

    def word(self, model: str) -> str:
        """What pods of ``model`` are told of this gateway."""
        return told(self._gateway, self.of(model).word())

    def hear(self, model: ChatModel, pods: Sequence[Pod]) -> None:
        """Takes what ``pods``, those of ``model`` that are not left out, have said last.

        Those that said nothing yet, or are of the version before, hold what the others do.
        """
        said = [pod.load.capacity for pod in pods if pod.load.capacity is not None]
        tokens = requests = math.inf
        if said:
            tokens, requests = (sum(one) * len(pods) / len(said) for one in zip(*said, strict=True))
        if model.tokens_in_flight is not None:
            tokens = model.tokens_in_flight
        # Each pod knows the gateways that reach it: the one that knows most is right.
        others = max((pod.load.others for pod in pods), key=lambda others: others.tokens, default=Flight())
        self.of(model.name).hear(Capacity(tokens, requests), others)
