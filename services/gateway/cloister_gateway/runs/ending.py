"""The end of a run in one write: its last events, the finished response, the output in the conversation, no more lease.

All of it stands, or nothing does. So whoever takes a run over finds it either unfinished, and finishes it from its
events, or finished. Beside it, afterwards, the run leaves the list of those that run for the list of those whose stream
is kept for a while: a gateway that dies in between leaves an ended run on the first list, and who looks there moves it.
"""

from collections.abc import Sequence
from typing import Any

from cloister_common.logs import get_logger
from redis.exceptions import ResponseError

from cloister_gateway.runs.acceptance import Log
from cloister_gateway.runs.lease import Leases
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.storage import ItemLog, KeyedObject, LogDamagedError, LogGoneError, RecordGoneError
from cloister_gateway.storage.client import is_cluster, publishing
from cloister_gateway.storage.items import PreparedItems
from cloister_gateway.storage.layout import events_key, items_key, lease_key, record_key, run_channel
from cloister_gateway.streams.events import DeposedError, sealed_group
from cloister_gateway.wire.items import Item

__all__ = ["Endings"]

log = get_logger(__name__)

# KEYS: record, events, lease, and of the conversation, if there is one: record, items. ARGV: holder; the last events'
# entry (id, n, d, f); the channel to wake; number of fields of the record, these; in a conversation: the run, the head
# to replace (empty where it does not open: then the conversation is only set free), the new head, the first item's
# number, then item id, record and the chain before it for each item.
_END = """
local stands = redis.call('HMGET', KEYS[1], 'tenant', 'done')
if not stands[1] then return redis.error_reply('GONE the record was destroyed') end
if stands[2] then return redis.error_reply('ENDED the run has ended') end
local fields = tonumber(ARGV[7])
local rest = 8 + fields
local told = 'ALONE'
if KEYS[4] then
  local said = redis.pcall('HMGET', KEYS[4], 'head', 'run')
  if said.err then told = 'DAMAGED'
  elseif not said[1] then told = 'DELETED'
  elseif said[2] ~= ARGV[rest] then told = 'MOVED'
  elseif ARGV[rest + 1] == '' then told = 'FREED'
  elseif said[1] ~= ARGV[rest + 1] then return redis.error_reply('STALE the log moved on')
  else told = 'STORED' end
end
redis.call('XADD', KEYS[2], ARGV[2], 'n', ARGV[3], 'd', ARGV[4], 'f', ARGV[5])
redis.call('HSET', KEYS[1], unpack(ARGV, 8, 7 + fields))
if told == 'STORED' then
  for i = rest + 4, #ARGV, 3 do
    local place = string.format('%d-0', tonumber(ARGV[rest + 3]) + (i - rest - 4) / 3)
    local added = redis.pcall('XADD', KEYS[5], place, 'i', ARGV[i], 'r', ARGV[i + 1], 'c', ARGV[i + 2])
    if added.err then told = 'DAMAGED' break end
  end
  if told == 'STORED' then redis.call('HSET', KEYS[4], 'head', ARGV[rest + 2]) end
  redis.call('HDEL', KEYS[4], 'run')
elseif told == 'FREED' then redis.call('HDEL', KEYS[4], 'run') end
if redis.pcall('GET', KEYS[3]) == ARGV[1] then redis.call('DEL', KEYS[3]) end
redis.call('PUBLISH', ARGV[6], '')
return redis.status_reply(told)
"""
_UNSTORED = {
    b"DELETED": "conversation_gone",
    # An earlier holder of this run came this far: the output is stored, and the log is no longer ours.
    b"MOVED": "conversation_moved_on",
    # The answer is whole, and its record is; the next turn is told that the conversation is not.
    b"DAMAGED": "conversation_damaged",
}


class Endings:
    """Writes the ends of runs.

    Args:
        store: Their records.
        items: Seals the output as the conversation's next items.
        leases: Names the holder.
    """

    def __init__(self, store: ResponseStore, items: ItemLog, leases: Leases) -> None:
        self._redis = store.redis
        self._items = items
        self._leases = leases
        self._script = store.redis.register_script(publishing(store.redis, _END))

    async def write(
        self,
        keyed: KeyedObject,
        conversation: Log | None,
        output: Sequence[Item],
        first: int,
        events: list[bytes],
        fields: dict[str, bytes],
    ) -> None:
        """Ends the run.

        Args:
            keyed: The response.
            conversation: Where the output goes, and the head of its log if it is known.
            output: The items of the output.
            first: The number of the first of ``events``.
            events: The last events.
            fields: What changes in the record.

        Raises:
            DeposedError: Another holder has come further; nothing was written.
            RecordGoneError: The response was destroyed; nothing was written.
        """
        keys = [record_key(keyed.kind, keyed.id), events_key(keyed.id), lease_key(keyed.id)]
        changed = [part for pair in fields.items() for part in pair]
        arguments: list[Any] = [self._leases.holder, *sealed_group(keyed, first, events, final=True)]
        arguments += [run_channel(keyed.id, sharded=is_cluster(self._redis)), len(changed), *changed]
        if conversation is not None:
            kind, object_id = conversation.keyed.kind, conversation.keyed.id
            keys += [record_key(kind, object_id), items_key(kind, object_id)]
        anew = False
        while True:
            new: PreparedItems | None = None
            added: list[Any] = []
            if conversation is not None:
                new = await self._prepared(conversation, output, anew=anew)
                added = [keyed.id, "", "", 0]
                if new is not None:
                    added = [keyed.id, new.old_head, new.new_head, *new.addition.arguments()]
            try:
                told = await self._script(keys=keys, args=[*arguments, *added])
            except ResponseError as error:
                reason = str(error)
                if reason.startswith("STALE"):
                    # An item was deleted meanwhile: that changes the head, whoever holds the log.
                    anew = True
                    continue
                if reason.startswith("GONE"):
                    raise RecordGoneError from error
                if reason.startswith("ENDED") or "equal or smaller" in reason:
                    raise DeposedError from error
                raise
            if told in _UNSTORED:
                log.warning(_UNSTORED[told], response_id=keyed.id)
            if told == b"STORED" and conversation is not None and new is not None:
                self._items.written(conversation.keyed, new)
            return

    async def _prepared(self, conversation: Log, output: Sequence[Item], *, anew: bool) -> PreparedItems | None:
        """The output as it follows the head. None where nothing can: the conversation is gone, which the script finds
        too, or its head does not open, and it is only set free."""
        keyed, head = conversation
        try:
            if head is not None and not anew:
                return self._items.prepare_behind(keyed, output, head)
            return await self._items.prepare(keyed, output, anew=anew)
        except LogGoneError:
            return None
        except LogDamagedError as error:
            log.error("conversation_damaged", conversation_id=keyed.id, exc_info=error)
            return None
