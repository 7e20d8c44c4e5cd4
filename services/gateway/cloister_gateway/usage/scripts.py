"""What Redis does in one step where a row of usage is written: the row, and all sums that it is in.

A sum is written as numbers with commas between them; of a day of a month, in the field of a family and a model, as five
whole numbers of eight bytes each, behind those of the days before it.

The version before wrote no sums of months. Those of a project that it knew have ``since``, the day of the month from
which they are whole: the second after this version first wrote there, by which an upgrade is over.
"""

__all__ = ["ADD", "MONTHS"]

# KEYS: sums of a month. ARGV: its first day that is asked. Returns all of each from that day on. (A command for each of
# a thousand costs its client many times what this does.)
MONTHS = """
local told, from = {}, (tonumber(ARGV[1]) - 1) * 40 + 1
for i = 1, #KEYS do
  local fields = redis.call('HGETALL', KEYS[i])
  for j = 2, #fields, 2 do
    if fields[j - 1] ~= 'since' then fields[j] = string.sub(fields[j], from) end
  end
  told[i] = fields
end
return told
"""

# KEYS: rows, numbers of rows, sums by hour, sums by day, whom, sums of a month. ARGV: the generation, the sealed row,
# its numbers, its places among the sums by hour and by day, the name of whom it was for and who that is, seconds to
# keep rows and hours, the place in the month (DAY.FIELD), the number of its first day since 1970. Where there is one
# slot for all, then the same of the organization: KEYS: sums by hour, by day, whom. ARGV: the places there, the name,
# who that is.
# What the version before wrote of a row has no part for the month, and five numbers.
ADD = """
local function add(key, place, numbers, sign)
  local sums = {}
  for number in string.gmatch(redis.call('HGET', key, place) or '', '-?%d+') do sums[#sums + 1] = tonumber(number) end
  local i = 0
  for number in string.gmatch(numbers, '%d+') do
    i = i + 1
    sums[i] = (sums[i] or 0) + sign * tonumber(number)
  end
  for j = 1, #sums do sums[j] = string.format('%.0f', sums[j]) end
  redis.call('HSET', key, place, table.concat(sums, ','))
end
local function add_day(key, place, numbers, sign)
  local day, field = string.match(place, '^(%d+)%.(.*)$')
  local from, stands = (tonumber(day) - 1) * 40, redis.call('HGET', key, field) or ''
  if #stands < from + 40 then stands = stands .. string.rep('\\0', from + 40 - #stands) end
  local packed, at = {}, from + 1
  for number in string.gmatch(numbers, '%d+') do
    if #packed == 5 then break end
    packed[#packed + 1] = struct.pack('<i8', struct.unpack('<i8', stands, at) + sign * tonumber(number))
    at = at + 8
  end
  redis.call('HSET', key, field, string.sub(stands, 1, from) .. table.concat(packed) .. string.sub(stands, from + 41))
end
local sums, places = {KEYS[3], KEYS[4]}, {ARGV[4], ARGV[5]}
if KEYS[7] then sums, places = {KEYS[3], KEYS[4], KEYS[7], KEYS[8]}, {ARGV[4], ARGV[5], ARGV[12], ARGV[13]} end
local month = ARGV[10]
local before = redis.call('HGET', KEYS[2], ARGV[1])
local now = ARGV[3] .. '|' .. table.concat(places, '|') .. '|' .. month
if before == now then return 0 end
if before then
  local parts = {}
  for part in string.gmatch(before, '[^|]+') do parts[#parts + 1] = part end
  for i = 1, #sums do add(sums[i], parts[i + 1], parts[1], -1) end
  if parts[#sums + 2] then add_day(KEYS[6], parts[#sums + 2], parts[1], -1) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], ARGV[1], now)
for i = 1, #sums do add(sums[i], places[i], ARGV[3], 1) end
local since, first = redis.call('HGET', KEYS[5], 'since'), tonumber(ARGV[11])
if not since then
  since = redis.call('EXISTS', KEYS[5]) == 1 and first + tonumber(string.match(month, '^%d+')) + 1 or 0
  redis.call('HSET', KEYS[5], 'since', since)
end
if tonumber(since) > first and redis.call('EXISTS', KEYS[6]) == 0 then
  redis.call('HSET', KEYS[6], 'since', tonumber(since) - first + 1)
end
add_day(KEYS[6], month, ARGV[3], 1)
redis.call('HSETNX', KEYS[5], ARGV[6], ARGV[7])
redis.call('EXPIRE', KEYS[1], ARGV[8])
redis.call('EXPIRE', KEYS[2], ARGV[8])
redis.call('EXPIRE', KEYS[3], ARGV[9])
if KEYS[9] then
  redis.call('HSETNX', KEYS[9], ARGV[14], ARGV[15])
  redis.call('EXPIRE', KEYS[7], ARGV[9])
end
return 1
"""
