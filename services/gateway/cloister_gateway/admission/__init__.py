"""How many generations this gateway does at once, who waits for a place, and who is told to come back later.

    load         how busy it is: the lag of its event loop, the latency of its Redis
    bound        from that: how many generations it can do
    queue        who waits, and who is next: by class, then fair between tenants
    place        one place, from being asked for to being given back
    doorway      in a rush, refusals before work
    service      this process's places: asked for, waited for, refused, given back
    middleware   the same for HTTP, before a body is read

It bounds what a process can carry. What the pods of a model can hold is bounded with the same queue, in
`cloister_gateway.models.flight`. What a caller *may* use (quotas) is another matter, see `cloister_gateway.limits`.
"""

from cloister_gateway.admission.place import Place
from cloister_gateway.admission.service import Admission

__all__ = ["Admission", "Place"]
