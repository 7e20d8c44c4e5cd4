"""Which history policy holds for the turns of a project: what its administrators set, else what the settings say."""

from dataclasses import replace

from cloister_gateway.history_settings import HistoryPolicySettings, HistorySettings
from cloister_gateway.limits.granted import GrantedLimits
from cloister_gateway.limits.rules import HistoryPolicy

__all__ = ["HistoryPolicies"]


class HistoryPolicies:
    """The policies of all projects. To look one up costs no question.

    Args:
        settings: What the settings file says.
        granted: What administrators set; all gateways have it within 5 s.
    """

    def __init__(self, settings: HistorySettings, granted: GrantedLimits) -> None:
        self.settings = settings
        self._all = _policy(settings)
        self._of = {project: _policy(one) for project, one in settings.projects.items()}
        self._granted = granted

    def of(self, project: str) -> HistoryPolicy:
        """What holds for ``project``.

        Raises:
            DamagedError: What was set is not what was written.
        """
        granted = self._granted.of(project)
        if granted is not None and granted.history is not None:
            return granted.history
        return self._of.get(project, self._all)

    async def set(self, project: str, policy: HistoryPolicy | None) -> None:
        """Sets what holds for ``project``, from now on and on every gateway; None gives it back to the settings."""
        await self._granted.change(project, lambda granted: replace(granted, history=policy))


def _policy(settings: HistoryPolicySettings) -> HistoryPolicy:
    return HistoryPolicy(settings.policy, settings.tokens, settings.summary_tokens)
