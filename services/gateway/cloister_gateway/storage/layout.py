"""Where everything lies in the gateway's Redis. Keys hold random ids, HMAC names and counts, and nothing else.

key                                slot           lives until
conv:{<conversation>}        hash  conversation   the conversation is deleted
conv:{<…>}:items             stream  "            "                   its sealed, chained items
conv:{<…>}:removed           hash    "            "                   what deleted items leave for the chain
conv:{<…>}:responses         set     "            "                   the responses that its key seals
resp:{<response>}            hash  response       the response is deleted; at the end of its stream with store: false
resp:{<…>}:events            stream  "            keep_stream_seconds after the run's end
resp:{<…>}:lease             string  "            5 s after its holder last renewed it: who runs it
runs:active                  zset  one for all    runs by the time at which their lease is over, while they run
runs:ended                   zset  one for all    runs by the time at which their stream is dropped, until it is
idem:<hmac>                  string  its own      idempotency_seconds after the turn was asked for: an idempotency key
ticket:<sha256>              string  its own      it is used, or 30 s: what opens one WebSocket, sealed
adapters                     hash    one for all  for ever: the adapters, sealed
limits:{<owner>}:<hmac>      hash   owner        its minute, day or month is over: what was used in it of a limit
limits:{<…>}:<hmac>          zset    "           a day after its last run: the generations that run, of a limit
limits:{<…>}:held            hash    "           they are settled: what generations have reserved
limits:{<…>}:leases          zset    "           "                 these by the time at which their lease is over
usage:{<project>}:rows:<day> hash   project      usage.keep_rows_days: what each generation of a day used, sealed
usage:{<…>}:sums:<day>       hash    "           "                   the numbers of these rows, for one that comes again
usage:{<…>}:hours:<day>      hash    "           usage.keep_hours_days: sums by hour, kind and whom
usage:{<…>}:days:<month>     hash    "           for ever: sums by day, kind and whom
usage:{<…>}:month:<month>    hash    "           for ever: sums by day, of all users together, by kinds and model
usage:{<…>}:kept:<month>     hash    "           for ever: bytes that vector stores kept, by hour
usage:{organization}:pods:<month> hash its own   for ever: minutes of pods, there and at work, by hour and model
usage:{organization}:busy:<minute> set  "        15 min: pods that worked in that minute
usage:{organization}:minute  string  "           for ever: the last minute that is counted
usage:{organization}:kept:<hour> string "        2 h: whether somebody looks at what is kept, or has
usage:{<…>}:whom             hash    "           for ever: the user, key and model that a name stands for, sealed
usage:{organization}:<…>     hash   its own      the same sums of all projects together, by model; not in a cluster
limits:owners                set    one for all  for ever: the projects for which something was reserved
limits:set                   hash   one for all  for ever: the limits that administrators set, sealed
batch:{<batch>}              hash   batch         batches.keep_days after its end: a batch
batch:{<…>}:lines            hash    "            it lies in a part: what became of its lines, by number, sealed
batch:{<…>}:parts            hash    "            its files are written: the parts in the retriever, and whose lines
batch:{<…>}:moved            string  "            "                     a bit for each line that lies in a part
batch:{<…>}:lease            string  "            5 s after its holder last renewed it: who works on it
batches:{<project>}          zset   project       its batches are gone: these by the time they were made
batches:active               zset   one for all   batches by the time at which their lease is over, while they run
batches:ended                zset   one for all   batches by the time at which they are dropped, until they are
vault:<kind>:<id>            string  its own      its object is deleted: the wrapped key that opens the object
vault:resp:{<…>}:key         string  response     in a cluster: the same of a response whose id `new_response_id` made
vault:tenant:<…>, root-check string  its own      for ever
identity:project:<project>   hash   its own, or   for ever; archived, not deleted
identity:projects            zset   one for all   for ever
identity:account:<account>   hash   (see below)   the service account is deleted
identity:accounts:<project>  zset   "             for ever
identity:key:<key>           hash   "             the API key is revoked
identity:rights:<owner>      string "             for ever: which keys of a project, or of the organization, live
identity:keys:<owner>        zset   "             an upgrade from the version before rights, whose index of keys it was
identity:gone:<list>         hash   "             a day after the last deletion: what stood before what is gone
identity:bootstrap           string "             the first keys are made, 30 s at most
catalog:models               string its own       for ever: the models that the administration has entered, sealed
waking:{<hmac>}              hash   its own       for ever: when a model was used last, and whether it rests
waking:{<…>}:held            zset   "             the requests that wait for it, by when they do no longer
waking:{<…>}:lease           string "             15 s at most: who scales it, or has it sleep or wake

The braces keep everything of one object in one slot of a Redis Cluster, and `new_response_id` brings a response into
that of its conversation, or of its idempotency claim where it is in none. What is written as one lies in one slot but
for claims of turns in a conversation; and for lists that many share, which are written before or after what they point
at, and whose readers look at that. The transactions of identity span its keys. So in a cluster all of them begin with
``{identity}`` in place of ``identity``, and lie in one slot. Elsewhere these and wrapped keys keep the names of earlier
versions, whose gateways look for them there during an upgrade.

channel                      says, and never carries content
run:<response>               there is more to read in the stream; run:{<response>} in a cluster
conversation:<conversation>  which run has begun in it; conversation:{<conversation>} in a cluster
gw:control                   what changed for all gateways: keys revoked or destroyed, projects archived, runs to cancel

Who may touch what: `storage.items` the head, the holder and the items of a conversation; `storage.keys` the wrapped
keys; `conversations.store` the rest of a conversation's hash; `runs.store` the records of responses and the index of
them; `runs.lease` leases and the lists of runs; `streams.events` the events, and in the same step the record they
change; `responses.idempotency` claims; `models.store` the catalog, `models.adapters.store` adapters,
`models.waking.store` what is known of models that rest; `identity.store` and `identity.rights` identity,
`identity.ticket_store` tickets; `limits.reservations` what is reserved and used, `limits.granted` the limits that were
set; `usage.store` usage; `batches.store` batches, their leases by `runs.lease`. `runs.acceptance` and `runs.ending`
write all that a turn begins and ends with in one step, sealed by those whose it is.
"""

from dataclasses import dataclass

from cloister_common.ids import new_id

from cloister_gateway.storage.slots import is_steered, new_id_beside

__all__ = [
    "ADAPTERS",
    "ADAPTERS_SET",
    "ANNOUNCEMENT_CHANNEL",
    "BATCH",
    "BATCHES_ACTIVE",
    "BATCHES_ENDED",
    "CATALOG",
    "CATALOG_KEY",
    "CLAIMS",
    "CONVERSATION",
    "IDENTITY",
    "LIMITS",
    "LIMITS_SET",
    "LIMIT_OWNERS",
    "REASONING",
    "RESPONSE",
    "RUNS_ACTIVE",
    "RUNS_ENDED",
    "USAGE",
    "IdentityKeys",
    "batch_lines_key",
    "batch_moved_key",
    "batch_parts_key",
    "batches_key",
    "claim_key",
    "conversation_channel",
    "events_key",
    "held_key",
    "holders_key",
    "items_key",
    "lease_key",
    "limit_key",
    "limit_leases_key",
    "new_response_id",
    "record_key",
    "removed_key",
    "reservations_key",
    "responses_key",
    "run_channel",
    "ticket_key",
    "usage_key",
    "waking_key",
    "waking_lease_key",
    "wrapped_key_key",
    "wrapped_key_name",
]

CONVERSATION = "conv"
"""The kind of conversations: a part of their keys, and of what their records and data keys are bound to."""
RESPONSE = "resp"
"""The kind of responses."""
BATCH = "batch"
"""The kind of batches."""
CLAIMS = "claims"
"""The kind of the data key that seals a tenant's idempotency claims."""
REASONING = "reasoning"
"""The kind of the data key that seals what a tenant's callers keep of a model's reasoning."""
IDENTITY = "identity"
"""The kind of the data key that seals a project's names, and the organization's that seals all rights."""
CATALOG = "catalog"
"""The kind of the organization's data key that seals the models that the administration has entered."""

ADAPTERS = "adapters"
"""The kind of the organization's data key that seals what is known of adapters."""

ADAPTERS_SET = "adapters"
CATALOG_KEY = "catalog:models"
USAGE = "usage"
"""The kind of the data key that seals what a project has used."""
LIMITS = "limits"
"""The kind of the organization's data key that seals the limits which administrators set."""

LIMITS_SET = "limits:set"
LIMIT_OWNERS = "limits:owners"
BATCHES_ACTIVE = "batches:active"
BATCHES_ENDED = "batches:ended"
RUNS_ACTIVE = "runs:active"
RUNS_ENDED = "runs:ended"
ANNOUNCEMENT_CHANNEL = "gw:control"
"""Named as in earlier versions, whose gateways listen to it during an upgrade."""


def new_response_id(beside: str | None = None) -> str:
    """An id for a response of which everything comes into the slot of the key ``beside``, or into any."""
    return new_id_beside(f"{RESPONSE}_", beside or new_id(""))


def record_key(kind: str, object_id: str) -> str:
    """The hash of one object: its record."""
    return f"{kind}:{{{object_id}}}"


def items_key(kind: str, object_id: str) -> str:
    """The object's item log."""
    return f"{record_key(kind, object_id)}:items"


def removed_key(kind: str, object_id: str) -> str:
    """What the removed items of the log have left."""
    return f"{record_key(kind, object_id)}:removed"


def responses_key(conversation_id: str) -> str:
    """The index of a conversation's responses."""
    return f"{record_key(CONVERSATION, conversation_id)}:responses"


def events_key(response_id: str) -> str:
    """The event stream of a response's run."""
    return f"{record_key(RESPONSE, response_id)}:events"


def lease_key(object_id: str, kind: str = RESPONSE) -> str:
    """The lease of a response's run, or of a batch."""
    return f"{record_key(kind, object_id)}:lease"


def batch_lines_key(batch_id: str) -> str:
    """What became of the lines of a batch."""
    return f"{record_key(BATCH, batch_id)}:lines"


def batch_parts_key(batch_id: str) -> str:
    """The parts of a batch's results that lie in the retriever, with the numbers of their lines."""
    return f"{record_key(BATCH, batch_id)}:parts"


def batch_moved_key(batch_id: str) -> str:
    """Which lines of a batch lie in these."""
    return f"{record_key(BATCH, batch_id)}:moved"


def batches_key(project: str) -> str:
    """The batches of a project, by the time they were made."""
    return f"batches:{{{project}}}"


def limit_key(owner: str, name: str) -> str:
    """What counts for one limit of a project, or of the organization, by the name that a naming key made."""
    return f"limits:{{{owner}}}:{name}"


def reservations_key(owner: str) -> str:
    """What generations of a project have reserved."""
    return f"limits:{{{owner}}}:held"


def limit_leases_key(owner: str) -> str:
    """These generations by the time at which their lease is over."""
    return f"limits:{{{owner}}}:leases"


def usage_key(project: str, what: str) -> str:
    """What a project has used: rows, sums, and whom they are about."""
    return f"usage:{{{project}}}:{what}"


def waking_key(name: str) -> str:
    """What is known of a model that may rest, by the name that the organization's naming key made."""
    return f"waking:{{{name}}}"


def held_key(name: str) -> str:
    """The requests that wait until it is awake."""
    return f"{waking_key(name)}:held"


def holders_key(name: str) -> str:
    """The gateways that hold them, each by the end of its lease."""
    return f"{waking_key(name)}:holders"


def waking_lease_key(name: str) -> str:
    """Held by who moves it."""
    return f"{waking_key(name)}:lease"


def claim_key(name: str) -> str:
    """A claimed idempotency key, by the name that the tenant's naming key made."""
    return f"idem:{name}"


def ticket_key(name: str) -> str:
    """A ticket, by the hash of what opens with it."""
    return f"ticket:{name}"


def wrapped_key_key(name: str, *, sharded: bool = False) -> str:
    """A wrapped key.

    Args:
        name: What the keyring calls it (``KIND:ID``). With ``*`` at its end it is a pattern.
        sharded: Whether it lies in a cluster, where that of a response lies in the slot of its record: both are written
            in one step.
    """
    kind, _, object_id = name.partition(":")
    if sharded and kind == RESPONSE and is_steered(object_id):
        return f"vault:{kind}:{{{object_id}}}:key"
    return f"vault:{name}"


def wrapped_key_name(key: str) -> str:
    """The name of the wrapped key that lies there."""
    return key.removeprefix("vault:").removesuffix("}:key").replace("{", "")


def run_channel(response_id: str, *, sharded: bool = False) -> str:
    """Says "there is more to read". It never carries content: pub/sub may lose messages.

    Args:
        response_id: The response.
        sharded: Whether it is a channel of a cluster, where it lies in the slot of the response: the script that
            appends to the stream writes to it too.
    """
    return f"run:{{{response_id}}}" if sharded else f"run:{response_id}"


def conversation_channel(conversation_id: str, *, sharded: bool = False) -> str:
    """Says which run has begun in a conversation. ``sharded`` as for `run_channel`."""
    return f"conversation:{{{conversation_id}}}" if sharded else f"conversation:{conversation_id}"


@dataclass(frozen=True, slots=True)
class IdentityKeys:
    """The keys of identity.

    Attributes:
        sharded: Whether they lie in a cluster: then in one slot, since transactions span them.
    """

    sharded: bool = False

    @property
    def prefix(self) -> str:
        """How all of them begin."""
        return "{identity}:" if self.sharded else "identity:"

    @property
    def projects(self) -> str:
        """All projects, by the time they were made."""
        return f"{self.prefix}projects"

    @property
    def bootstrap(self) -> str:
        """Held by who makes the first keys."""
        return f"{self.prefix}bootstrap"

    def project(self, project_id: str) -> str:
        """A project's record."""
        return f"{self.prefix}project:{project_id}"

    def account(self, account_id: str) -> str:
        """A service account's record."""
        return f"{self.prefix}account:{account_id}"

    def accounts(self, project_id: str) -> str:
        """The service accounts of a project, by the time they were made."""
        return f"{self.prefix}accounts:{project_id}"

    def key(self, key_id: str) -> str:
        """An API key's record."""
        return f"{self.prefix}key:{key_id}"

    def rights(self, owner: str) -> str:
        """The rights of a project, or of the organization. ``*`` is a pattern for all of them."""
        return f"{self.prefix}rights:{owner}"

    def unlisted_keys(self, owner: str) -> str:
        """The index of keys of the version before there were rights."""
        return f"{self.prefix}keys:{owner}"

    def gone(self, owner: str, what: str) -> str:
        """What was deleted from the list of an owner's keys or accounts, and what stood before it."""
        return f"{self.prefix}gone:{owner}:{what}"
