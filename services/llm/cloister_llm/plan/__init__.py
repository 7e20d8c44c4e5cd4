"""Sizing: does a model fit, how long may its context be, how many conversations are served at once, and how fast.

`configuration` and `layers` read a model's ``config.json``, `shape` keeps what follows; `inventory`, `quantisation` and
`weights` know what the weights take; `capacity` does the sums, `speed` estimates, `comparison` does both for each of
`accelerators`, `report` tells. The sums are made by an operator's ``cloister_llm plan`` and by the launcher alike.
"""

from cloister_llm.plan.capacity import Capacity, DoesNotFit, Load, plan_capacity
from cloister_llm.plan.shape import ModelShape, PlanError, read_shape
from cloister_llm.plan.weights import weight_bytes

__all__ = ["Capacity", "DoesNotFit", "Load", "ModelShape", "PlanError", "plan_capacity", "read_shape", "weight_bytes"]
