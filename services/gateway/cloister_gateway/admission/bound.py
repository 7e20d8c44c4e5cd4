"""How many generations this process can do, found by trying: more while it keeps up, fewer when it does not.

Additive increase, multiplicative decrease, as TCP has it (RFC 5681), with its slow start: until the first overload the
bound grows by a tenth with each sample, afterwards by a hundredth. Two things keep it from swinging:

- Between half of a limit and the limit nothing changes.
- It falls only to just below what runs *now*, and once in a while: generations that have begun go on, so that a lower
  bound takes effect only as they end. One that kept falling meanwhile would be found at the floor. Where few run, it
  falls by a twentieth a second.
"""

from prometheus_client import Gauge

from cloister_gateway.admission.load import SAMPLE_SECONDS, Load
from cloister_gateway.settings import AdmissionSettings

__all__ = ["Bound"]

_BOUND = Gauge("cloister_generations_bound", "Generations that this gateway does at once at most, by its own measure.")

_START = 128
"""What a core carries in any case. More is found out within seconds, see `_FAST`."""
_FAST, _SLOW = 0.1, 0.01
_FALL = 0.95
_FALL_SAMPLES = round(1.0 / SAMPLE_SECONDS)
"""Samples between two falls: what the last one brought must show first."""


class Bound:
    """The most generations at once.

    Args:
        settings: The limits.

    Attributes:
        most: Whole generations.
    """

    def __init__(self, settings: AdmissionSettings) -> None:
        self._settings = settings
        self._exact = float(min(max(_START, settings.least_generations), settings.most_generations))
        self._growth = _FAST
        self._since_fall = _FALL_SAMPLES
        self._tell()

    def follow(self, load: Load, *, running: int, wanted: bool) -> None:
        """Fits the bound to one more sample.

        Args:
            load: The sample.
            running: Generations now.
            wanted: Whether more are asked for: a bound that nobody reaches says nothing, and does not grow.
        """
        settings = self._settings
        strain = max(load.lag / settings.lag_seconds, load.latency / settings.redis_seconds)
        self._since_fall += 1
        if strain > 1 and self._since_fall >= _FALL_SAMPLES:
            # With few generations it is something else that makes it late: a start, connections, a neighbour.
            of_generations = running > self._exact / 2
            lower = max(
                settings.least_generations, (min(self._exact, running) if of_generations else self._exact) * _FALL
            )
            if lower < self._exact:
                self._exact, self._since_fall = lower, 0
                self._growth = _SLOW if of_generations else self._growth
        elif strain < 0.5 and wanted:
            self._exact = min(settings.most_generations, self._exact + max(1.0, self._exact * self._growth))
        self._tell()

    @property
    def expected(self) -> int:
        """What it will be before long: as long as nothing speaks against it, it doubles within a second."""
        return min(self._settings.most_generations, self.most * 2) if self._growth == _FAST else self.most

    def _tell(self) -> None:
        self.most = int(self._exact)
        _BOUND.set(self.most)
