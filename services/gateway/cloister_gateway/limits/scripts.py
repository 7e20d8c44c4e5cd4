"""What Redis does in one step: reserve at all levels or at none, settle, renew, and let go of what nobody renews.

A count of a time is a hash: ``u`` is what was used and reserved, ``e`` the end of its minute, day or month. What is
reserved is taken from the count at once, and known by the generation's id (``held``), so that settling only changes the
count by the difference; and changes nothing where another minute has begun meanwhile. What runs at once is a sorted
set of ids by the end of their lease.

All times are Redis's own. The keys of counts stand in what is held: they lie in the slot of its own key.
"""

__all__ = ["EXPIRE", "LOST", "RENEW", "RESERVE", "SETTLE"]

_NOW = "local time = redis.call('TIME') local now = time[1] + time[2] / 1e6 "

# The ends of times in UTC. Source of the calendar: http://howardhinnant.github.io/date_algorithms.html, whose years
# begin in March. (A year that begins an era of 400 is a leap year.)
_ENDS = """
local function year_begins(year)
  return 365 * year + math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
end
local function end_of(per)
  if per == 'minute' then return math.floor(now / 60) * 60 + 60 end
  local day = math.floor(now / 86400)
  if per == 'day' then return day * 86400 + 86400 end
  local era = math.floor((day + 719468) / 146097)
  local of_era = day + 719468 - era * 146097
  local leaps = math.floor(of_era / 36524) - math.floor(of_era / 1460) - math.floor(of_era / 146096)
  local year = math.floor((of_era + leaps) / 365)
  local month = math.floor((5 * (of_era - year_begins(year)) + 2) / 153) + 1
  local ends = year_begins(year) + math.floor((153 * month + 2) / 5)
  if month == 12 then ends = year_begins(year + 1) end
  return (era * 146097 + ends - 719468) * 86400
end
"""

# KEYS: leases, held, then counts. ARGV: the generation, seconds of its lease, tokens read, written, and both together;
# the price of one that is read and of one that is written, what tells of the generation if it is lost, then of each
# count its unit, time and the most. What the generation has reserved before is given back first. Returns whether it is
# reserved, then of each count the seconds until the end of its time, and what is used of it, with the amount if it is
# reserved.
RESERVE = (
    _NOW
    + _ENDS
    + """
local id, until_ = ARGV[1], now + ARGV[2]
local read, written, price, price_written = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[6]), tonumber(ARGV[7])
local amounts = {
  requests = 1, running = 1, input_tokens = read, output_tokens = written, tokens = tonumber(ARGV[5]),
  spend = math.ceil(read * price + written * price_written)
}
local before = redis.call('HGET', KEYS[2], id)
if before then
  for _, count in ipairs(cjson.decode(before).c) do
    local key, unit, ends_at, amount = unpack(count)
    if unit == 'running' then
      redis.call('ZREM', key, id)
    elseif tonumber(redis.call('HGET', key, 'e') or 0) == ends_at then
      redis.call('HINCRBY', key, 'u', string.format('%.0f', -amount))
    end
  end
  redis.call('HDEL', KEYS[2], id)
  redis.call('ZREM', KEYS[1], id)
end
local told, over = {1}, false
local ends, used, units = {}, {}, {}
for i = 3, #KEYS do
  local unit, per, most = string.match(ARGV[i + 6], '(.*)|(.*)|(.*)')
  units[i] = unit
  if unit == 'running' then
    redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
    ends[i], used[i] = 0, redis.call('ZCARD', KEYS[i])
  else
    local stands = redis.call('HMGET', KEYS[i], 'e', 'u')
    ends[i], used[i] = tonumber(stands[1] or 0), tonumber(stands[2] or 0)
    if ends[i] <= now then ends[i], used[i] = end_of(per), 0 end
  end
  if used[i] + amounts[unit] > tonumber(most) then over = true end
end
local counts = {}
for i = 3, #KEYS do
  local unit = units[i]
  local amount = amounts[unit]
  if not over then
    used[i] = used[i] + amount
    if unit == 'running' then
      redis.call('ZADD', KEYS[i], until_, id)
      redis.call('EXPIRE', KEYS[i], 86400)
    else
      redis.call('HSET', KEYS[i], 'e', ends[i], 'u', string.format('%.0f', used[i]))
      redis.call('EXPIREAT', KEYS[i], ends[i] + 60)
    end
    counts[#counts + 1] = {KEYS[i], unit, ends[i], amount}
  end
  told[#told + 1], told[#told + 2] = ends[i] - math.floor(now), used[i]
end
if over then
  told[1] = 0
  return told
end
redis.call('HSET', KEYS[2], id, cjson.encode({c = counts, i = price, o = price_written, w = ARGV[8]}))
redis.call('ZADD', KEYS[1], until_, id)
return told
"""
)

# KEYS: leases, held. ARGV: the generation, tokens read, tokens written, requests. Returns 0 where nothing is held for
# it, 1 where it is settled, 2 where it used more than was reserved.
SETTLE = """
local raw = redis.call('HGET', KEYS[2], ARGV[1])
if not raw then return 0 end
local held = cjson.decode(raw)
local read, written = tonumber(ARGV[2]), tonumber(ARGV[3])
local used = {
  requests = tonumber(ARGV[4]), input_tokens = read, output_tokens = written, tokens = read + written,
  spend = math.ceil(read * held.i + written * held.o)
}
local told = 1
for _, count in ipairs(held.c) do
  local key, unit, ends, amount = unpack(count)
  if unit == 'running' then
    redis.call('ZREM', key, ARGV[1])
  else
    if used[unit] > amount then told = 2 end
    if tonumber(redis.call('HGET', key, 'e') or 0) == ends then
      redis.call('HINCRBY', key, 'u', string.format('%.0f', used[unit] - amount))
    end
  end
end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return told
"""

# KEYS: leases, held. ARGV: seconds of a lease, generations. Says of each whether something is held for it. One whose
# lease was over runs again.
RENEW = (
    _NOW
    + """
local told = {}
for i = 2, #ARGV do
  local raw = redis.call('HGET', KEYS[2], ARGV[i])
  told[i - 1] = raw and 1 or 0
  if raw then
    local held = cjson.decode(raw)
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i])
    for _, count in ipairs(held.c) do
      if count[2] == 'running' then redis.call('ZADD', count[1], now + ARGV[1], ARGV[i]) end
    end
    if held.l then
      held.l = nil
      redis.call('HSET', KEYS[2], ARGV[i], cjson.encode(held))
    end
  end
end
return told
"""
)

# KEYS: leases, held. ARGV: how many at most. Returns what tells of those whose lease is over since the last time.
LOST = (
    _NOW
    + """
local told = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local raw = redis.call('HGET', KEYS[2], id)
  local held = raw and cjson.decode(raw)
  if held and not held.l and held.w ~= '' then told[#told + 1] = held.w end
end
return told
"""
)

# KEYS: leases, held. ARGV: how many at most, for how many seconds a late settlement is waited for. Those whose lease is
# over count as what they reserved, and reserve nothing any more. Returns how many these are.
EXPIRE = (
    _NOW
    + """
local lost = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  local raw = redis.call('HGET', KEYS[2], id)
  local held = raw and cjson.decode(raw)
  if not held or held.l then
    redis.call('ZREM', KEYS[1], id)
    redis.call('HDEL', KEYS[2], id)
  else
    lost = lost + 1
    held.l = 1
    for _, count in ipairs(held.c) do
      if count[2] == 'running' then redis.call('ZREM', count[1], id) end
    end
    redis.call('HSET', KEYS[2], id, cjson.encode(held))
    redis.call('ZADD', KEYS[1], now + ARGV[2], id)
  end
end
return lost
"""
)
