--[[
Charge what a router used and this server does not know of: it was admitted while Redis was away,
or the server lost it. What has a record is known, so that the same call may be sent twice.

KEYS  1  waiters
      then 2 a group: its ring, its leases
      then the reservations, one an entry
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  the epoch in which the router believes to be
      6  how far ahead of now the entries lie at most, ms
      7  the number of groups
      then for each group "end of day in ms|requests|tokens": what is added to its day beside the
         entries; 0 for a group whose days are not counted
      then for each entry "group|age|t|i|more age|more r|more t|more i|more o|held|lease|life|id":
         `age` ms ago a request was reserved with t and i tokens; `more age` ms ago what it used
         beyond (or, negative, gave back) was known; it holds output tokens for `lease` ms if that
         is not 0; its record lives for `life` ms and is settled if `lease` is -1

Returns {1, now, entries charged}
        {3, now} this is another epoch: nothing was changed
]]
--- @include "clock"
--- @include "ring"
--- @include "leases"

local now = read_clock(ARGV[1])
if redis.call('HGET', KEYS[1], '#epoch') ~= ARGV[5] then
  return {3, now}
end
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local count = tonumber(ARGV[7])

local groups = {}
for n = 1, count do
  local ring = ring_read(KEYS[2 * n], geometry, now + tonumber(ARGV[6]))
  local day_end, r, t = string.match(ARGV[7 + n], '^(%d+)|(%d+)|(%d+)$')
  groups[n] = {ring = ring, changes = {}, leases = KEYS[2 * n + 1], lease = 0, days = tonumber(day_end) > 0}
  if groups[n].days then
    ring_roll_day(ring, tonumber(day_end), now)
    ring.day_r, ring.day_t = ring.day_r + tonumber(r), ring.day_t + tonumber(t)
  end
end

local function add(group, age, r, t, i, o)
  local slot = math.floor((now - age) * geometry.slots / geometry.window)
  if slot > group.ring.head then
    slot = group.ring.head
  end
  if ring_counts(group.ring, slot) then
    ring_add(group.ring, group.changes, slot, r, t, i, o)
  end
  return slot
end

local ENTRY = '^(%d+)|(%-?%d+)|(%d+)|(%d+)|(%d+)|(%-?%d+)|(%-?%d+)|(%-?%d+)|(%d+)|(%d+)|(%-?%d+)|'
  .. '(%d+)|(.+)$'
local charged = 0
for n = 1, #KEYS - 1 - 2 * count do
  local key = KEYS[1 + 2 * count + n]
  if redis.call('EXISTS', key) == 0 then
    charged = charged + 1
    local number, age, t, i, more_age, more_r, more_t, more_i, more_o, held, lease, life, id =
      string.match(ARGV[7 + count + n], ENTRY)
    local group = groups[tonumber(number)]
    age, t, i, lease, held = tonumber(age), tonumber(t), tonumber(i), tonumber(lease), tonumber(held)
    more_r, more_t, more_i = tonumber(more_r), tonumber(more_t), tonumber(more_i)
    local slot = add(group, age, 1, t, i, 0)
    -- Less is given back where it was charged; more was charged when it was known.
    add(group, age, math.min(0, more_r), math.min(0, more_t), math.min(0, more_i), 0)
    add(group, tonumber(more_age), 0, math.max(0, more_t), math.max(0, more_i), tonumber(more_o))
    if group.days then
      group.ring.day_r = group.ring.day_r + 1 + more_r
      group.ring.day_t = math.max(0, group.ring.day_t + t + more_t)
    end
    if lease > 0 then
      leases_add(group.leases, id, held, now + lease, now)
      group.ring.held, group.lease = group.ring.held + held, math.max(group.lease, lease)
    end
    redis.call('SET', key, string.format('%s:0:%d:%d:%d:%d', lease < 0 and 'S' or 'R', slot, t, i,
      lease > 0 and held or -1), 'PX', life)
  end
end
for _, group in ipairs(groups) do
  ring_write(group.ring, group.changes, now)
  if group.lease > 0 then
    local rest = group.lease + 2 * geometry.window
    redis.call('PEXPIRE', group.ring.key, math.max(rest, redis.call('PTTL', group.ring.key)))
  end
end
return {1, now, charged}
