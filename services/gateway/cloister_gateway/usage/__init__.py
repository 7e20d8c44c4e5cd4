"""What generations may cost and did cost: one seam around every one of them."""

from cloister_gateway.usage.metering import (
    Ending,
    Generation,
    Kind,
    Meter,
    Metered,
    Metering,
    Unmetered,
    Used,
    reserved,
)

__all__ = ["Ending", "Generation", "Kind", "Meter", "Metered", "Metering", "Unmetered", "Used", "reserved"]
