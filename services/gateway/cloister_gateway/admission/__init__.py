"""How many generations this gateway does at once, who waits for a place, and who is told to come back later.

    load         how busy it is: the lag of its event loop, the latency of its Redis
    bound        from that: how many generations it can do
    queue        who waits for a place, by tenant in turn
    service      places: asked for, waited for, refused, given back
    middleware   the same for HTTP, before a body is read

It bounds what a process can carry. What a caller *may* use (quotas) is another matter, see `cloister_gateway.usage`.
"""

from cloister_gateway.admission.service import Admission, Place

__all__ = ["Admission", "Place"]
