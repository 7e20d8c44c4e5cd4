"""What generations may cost and did cost: one seam around every one of them."""

from cloister_gateway.usage.metering import Generation, Kind, Meter, Metered, Outcome, Unmetered, Used, reserved

__all__ = ["Generation", "Kind", "Meter", "Metered", "Outcome", "Unmetered", "Used", "reserved"]
