"""Limits that administrators set, through the official SDK, are in force on every gateway."""

from functools import partial
from typing import Any

import httpx
import openai
import pytest
from prometheus_client import REGISTRY

from tests.integration.gateway.limits.conftest import Limit, Limited
from tests.support.waiting import wait_until


def project_of(limited: Limited) -> str:
    return str(limited.admin.projects.list().data[0].id)


def test_rates_of_a_project_are_listed_set_and_taken_away(limit: Limit) -> None:
    rule = {"level": "project", "per": "minute", "model": "ranker", "tokens": 700}
    with limit(rule, gateways=3) as limited:
        rates, project = limited.admin.projects.rate_limits, project_of(limited)
        listed = {rate.model: rate for rate in rates.list_rate_limits(project)}
        assert set(listed) == {"fake", "ranker"}
        assert listed["ranker"].max_tokens_per_1_minute == 700
        assert listed["fake"].max_requests_per_1_minute == listed["fake"].max_requests_per_1_day == 2_147_483_647
        rate = rates.update_rate_limit(listed["fake"].id, project_id=project, max_requests_per_1_day=2)
        assert (rate.id, rate.model, rate.max_requests_per_1_day) == (listed["fake"].id, "fake", 2)
        assert rates.list_rate_limits(project, limit=1).data[0] == rate
        for at in range(3):
            wait_until(partial(_is_set, limited, at, project, rate), seconds=5)
        assert [limited.chat(at=at % 3).status_code for at in range(3)] == [200, 200, 429]
        rates.update_rate_limit(listed["fake"].id, project_id=project, max_requests_per_1_day=2_147_483_647)
        for at in range(3):
            wait_until(partial(_is_let, limited, at), seconds=5)


def _is_set(limited: Limited, at: int, project: str, rate: Any) -> bool:
    rates = limited.administration(at).projects.rate_limits
    return bool(rates.list_rate_limits(project, limit=1).data[0] == rate)


def _is_let(limited: Limited, at: int) -> bool:
    return limited.chat(at=at).status_code == 200


def test_a_spend_limit_is_set_enforced_and_deleted(limit: Limit) -> None:
    with limit(prices={"fake": {"output": 1000.0}}) as limited:
        project = project_of(limited)
        for owner, where in ((limited.admin, {}), (limited.admin.projects, {"project_id": project})):
            spend = owner.spend_limit
            with pytest.raises(openai.NotFoundError):
                spend.retrieve(**where)
            asked: dict[str, Any] = {"currency": "USD", "interval": "month", "threshold_amount": 1}
            assert spend.update(**asked, **where).enforcement.status == "inactive"
            answers = [limited.chat() for _ in range(2)]
            assert [answer.status_code for answer in answers] == [200, 429]
            assert answers[1].json()["error"]["code"] == "insufficient_quota"
            assert spend.retrieve(**where).threshold_amount == 1
            with pytest.raises(openai.BadRequestError, match="USD"):
                spend.update(**{**asked, "currency": "XYZ"}, **where)
            assert spend.delete(**where).deleted
            assert limited.chat().status_code == 200


def test_spend_alerts_are_kept_told_and_reached_once_and_stop_nothing(limit: Limit) -> None:
    with limit(prices={"fake": {"output": 1000.0}}, gateways=2) as limited:
        project = project_of(limited)
        for at, (administration, where) in enumerate(
            ((limited.admin, {}), (limited.administration(1).projects, {"project_id": project}))
        ):
            alerts = administration.spend_alerts
            channel = {"type": "email", "recipients": ["ops@example.org"], "subject_prefix": "[spend]"}
            asked: dict[str, Any] = {"currency": "USD", "interval": "month", "notification_channel": channel}
            made = [alerts.create(**asked, threshold_amount=most, **where) for most in (1, 10**6)]
            assert [alert.threshold_amount for alert in made] == [1, 10**6]
            assert list(alerts.list(**where)) == made
            assert [alert.id for alert in alerts.list(limit=1, order="desc", **where).data] == [made[1].id]
            assert alerts.retrieve(made[0].id, **where) == made[0]
            assert made[0].notification_channel.recipients == ["ops@example.org"]
            assert made[0].object == ("project.spend_alert" if where else "organization.spend_alert")
            # (Of the gateway at which it was set: nobody has to hear of it.)
            assert [limited.chat(at=at).status_code for _ in range(3)] == [200] * 3
            assert [_reached(alert.id) for alert in made] == [1, 0]
            changed = alerts.update(made[1].id, **{**asked, "threshold_amount": 2}, **where)
            assert (changed.id, changed.threshold_amount) == (made[1].id, 2)
            limited.chat(at=at)
            assert _reached(changed.id) == 1
            for alert in made:
                assert alerts.delete(alert.id, **where).deleted
            for missing in (alerts.retrieve, alerts.delete):
                with pytest.raises(openai.NotFoundError, match=made[0].id):
                    missing(made[0].id, **where)
            with pytest.raises(openai.BadRequestError, match="USD"):
                alerts.create(**{**asked, "currency": "XYZ"}, threshold_amount=1, **where)
            nobody = {"type": "email", "recipients": []}
            with pytest.raises(openai.BadRequestError, match="recipients"):
                alerts.create(**{**asked, "notification_channel": nobody}, threshold_amount=1, **where)


def _reached(alert: str) -> float:
    """How often an alert was reached, at all gateways: they run in this process."""
    return REGISTRY.get_sample_value("cloister_spend_alerts_total", {"alert": alert}) or 0


def test_an_alert_beside_a_limit_leaves_the_limit_as_it_is(limit: Limit) -> None:
    with limit(prices={"fake": {"output": 1000.0}}) as limited:
        channel = {"type": "email", "recipients": ["ops@example.org"]}
        asked: dict[str, Any] = {"currency": "USD", "interval": "month", "threshold_amount": 1}
        limited.admin.spend_limit.update(**asked)
        alert = limited.admin.spend_alerts.create(**asked, notification_channel=channel)
        assert [limited.chat().status_code for _ in range(2)] == [200, 429]
        limited.admin.spend_limit.delete()
        assert limited.chat().status_code == 200
        with pytest.raises(openai.NotFoundError):
            limited.admin.spend_limit.retrieve()
        limited.admin.spend_alerts.delete(alert.id)


def test_limits_are_not_a_projects_to_say(limit: Limit) -> None:
    with limit() as limited:
        project = project_of(limited)
        for path in (f"projects/{project}/rate_limits", "spend_limit", "spend_alerts"):
            answer = httpx.get(
                f"{limited.urls[0]}/v1/organization/{path}", headers=dict(limited.gateway.headers()), timeout=30
            )
            assert answer.status_code == 403


def test_what_cannot_be_limited_is_refused_by_name(limit: Limit) -> None:
    with limit() as limited:
        rates, project = limited.admin.projects.rate_limits, project_of(limited)
        with pytest.raises(openai.BadRequestError, match="max_images_per_1_minute"):
            rates.update_rate_limit("rl-fake", project_id=project, max_images_per_1_minute=1)
        with pytest.raises(openai.NotFoundError, match="rl-unknown"):
            rates.update_rate_limit("rl-unknown", project_id=project, max_requests_per_1_day=1)
        with pytest.raises(openai.NotFoundError, match="proj_unknown"):
            rates.list_rate_limits("proj_unknown")


def test_limits_that_are_not_what_was_written_let_nobody_begin(limit: Limit) -> None:
    with limit() as limited:
        project = project_of(limited)
        limited.admin.projects.rate_limits.update_rate_limit("rl-fake", project_id=project, max_requests_per_1_day=9)
        with limited.redis.client() as redis:
            redis.hset("limits:set", project, b"garbage")
        wait_until(lambda: limited.chat().status_code == 500, what="it is found")
        assert limited.chat().json()["error"]["code"] == "stored_data_damaged"
