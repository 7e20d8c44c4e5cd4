"""Sizing: does a model fit, how long may its context be, how many conversations are served at once.

`shape` reads a model's ``config.json``, `weights` the size of its files, `capacity` does the sums, `report` prints
them. The same sums are made by an operator's ``cloister_llm plan`` and by the launcher before it starts vLLM.
"""

from cloister_llm.plan.capacity import Capacity, DoesNotFit, Load, plan_capacity
from cloister_llm.plan.shape import ModelShape, PlanError, read_shape
from cloister_llm.plan.weights import weight_bytes

__all__ = ["Capacity", "DoesNotFit", "Load", "ModelShape", "PlanError", "plan_capacity", "read_shape", "weight_bytes"]
