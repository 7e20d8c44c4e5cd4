"""What generations may cost and did cost: one seam around every one of them."""

from cloister_gateway.usage.metering import (
    Both,
    Ending,
    Generation,
    InputSplit,
    Kind,
    Meter,
    Metered,
    Metering,
    PromptSize,
    Reservation,
    Unmetered,
    Used,
    reserved,
)

__all__ = [
    "Both",
    "Ending",
    "Generation",
    "InputSplit",
    "Kind",
    "Meter",
    "Metered",
    "Metering",
    "PromptSize",
    "Reservation",
    "Unmetered",
    "Used",
    "reserved",
]
