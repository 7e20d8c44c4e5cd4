"""What a plan of use comes to: tokens by turn, day and month, the pods that carry them, and what those cost.

`question` is what is asked, `forecast` the tokens, `demand` the load and the pods, `money` the cost; `picture` and
`report` tell. All of it is arithmetic on the question, without state, so that a person can follow it by hand.
"""

from cloister_gateway.planning.plan import UsagePlan, plan_usage
from cloister_gateway.planning.question import UsageQuestion

__all__ = ["UsagePlan", "UsageQuestion", "plan_usage"]
