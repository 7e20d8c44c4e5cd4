"""``/cloister/v1/projects/{id}/history_policy``: what a project's turns send of what was said before them.

For administration keys only. What is set holds on every gateway within 5 s.
"""

from typing import Annotated, Any

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.wire.requests import RequestModel
from fastapi import APIRouter, Depends
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cloister_gateway.history_settings import PolicyName
from cloister_gateway.identity.guard import LET_END, require
from cloister_gateway.identity.principal import ADMIN_SCOPE
from cloister_gateway.limits.history import HistoryPolicies
from cloister_gateway.limits.rules import HistoryPolicy
from cloister_gateway.organization.service import Directory
from cloister_gateway.wire.query import DECLARED_QUERY

__all__ = ["HistoryPolicyUpdate", "router"]

router = APIRouter(
    prefix="/cloister/v1/projects/{project_id}/history_policy",
    dependencies=[Depends(require(ADMIN_SCOPE)), DECLARED_QUERY],
    route_class=JsonRoute,
)

Body = dict[str, Any]
Projects = Annotated[Directory, Depends(provided(Directory))]
Policies = Annotated[HistoryPolicies, Depends(provided(HistoryPolicies))]


class HistoryPolicyUpdate(RequestModel):
    """``POST …/history_policy``: all of it; what is left out has its default."""

    policy: PolicyName = Field(description="`all` that fits, a `budget` of tokens, or a rolling `summary`.")
    tokens: int | None = Field(None, ge=64, le=2**31 - 1, description="Of history, with `budget` and `summary`.")
    summary_tokens: int = Field(
        400, ge=16, le=100_000, description="The longest summary; half of `tokens` where that is less."
    )

    @model_validator(mode="after")
    def _bounded_by_something(self) -> "HistoryPolicyUpdate":
        if (self.policy == "all") is (self.tokens is not None):
            raise PydanticCustomError("policy_tokens", "'budget' and 'summary' need 'tokens', and 'all' takes none")
        return self


@router.get("")
async def retrieve(project_id: str, directory: Projects, policies: Policies) -> Body:
    """What holds for the project."""
    await directory.project(project_id)
    return _body(project_id, policies.of(project_id))


@router.post("", dependencies=[LET_END])
async def update(project_id: str, body: HistoryPolicyUpdate, directory: Projects, policies: Policies) -> Body:
    """Sets what holds for the project, in place of what the settings say."""
    await directory.active_project(project_id)
    await policies.set(project_id, HistoryPolicy(body.policy, body.tokens, body.summary_tokens))
    return _body(project_id, policies.of(project_id))


@router.delete("", dependencies=[LET_END])
async def delete(project_id: str, directory: Projects, policies: Policies) -> Body:
    """Gives the project back to what the settings say."""
    await directory.project(project_id)
    await policies.set(project_id, None)
    return {"object": "cloister.history_policy.deleted", "project_id": project_id, "deleted": True}


def _body(project_id: str, policy: HistoryPolicy) -> Body:
    return {"object": "cloister.history_policy", "project_id": project_id, **policy._asdict()}
