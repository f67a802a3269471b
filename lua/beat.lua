--[[
Tell that a router is there, and learn what it must know should Redis go away.

An epoch is a time in which this server forgot nothing. Another server's run id, or none at all,
begins a new one: the server was restarted, replaced or emptied, and what was charged last may be
lost. Whoever waits then is forgotten too, and asks again.

KEYS  1  routers
      2  waiters
      3  deadlines
      4  health
      then 2 a group: its ring, its leases
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  the router's id
      6  ms after which a router that is silent counts no more
      7  a name for a new epoch
      8  'here', 'asking' (it is not counted yet) or 'leaving'
      9  since when (ms) the routers that were heard are to be counted
      10 the epoch in which the router believes to be; 'here' in another one is 'asking'. '' for any

Returns {now, epoch, 1 if it began with nothing, routers, the router's rank from 0,
         routers heard since, number of marks, then for each mark its field and ms (-1: until
         somebody acts), then for each group eight values: requests, tokens, input tokens, output
         tokens with those held, calls under way, end of day in ms, requests today, tokens today}
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local id = ARGV[5]

-- Some hosts do not allow INFO; there an empty server alone begins a new epoch.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local stored = redis.call('HMGET', KEYS[2], '#epoch', '#run', '#empty')
local epoch, empty = stored[1], tonumber(stored[3] or '0')
if not epoch or (run ~= '' and stored[2] ~= run) then
  empty = epoch and 0 or 1
  epoch = ARGV[7]
  redis.call('DEL', KEYS[2], KEYS[3])
  redis.call('HSET', KEYS[2], '#epoch', epoch, '#run', run, '#empty', empty)
end

-- Who asks whether Redis can do its work asks whether it takes writes.
redis.call('HSET', KEYS[2], '#beat', now)
if ARGV[8] == 'here' and (ARGV[10] == '' or ARGV[10] == epoch) then
  redis.call('ZADD', KEYS[1], now, id)
elseif ARGV[8] == 'leaving' then
  redis.call('ZREM', KEYS[1], id)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[6]))
local routers = redis.call('ZRANGE', KEYS[1], 0, -1)
local rank = 0
for _, other in ipairs(routers) do
  if other < id then
    rank = rank + 1
  end
end
local heard = redis.call('ZCOUNT', KEYS[1], ARGV[9], '+inf')
local answer = {now, epoch, empty, #routers, rank, heard, 0}

local marks = redis.call('HGETALL', KEYS[4])
for n = 1, #marks, 2 do
  local till = health_until(marks[n + 1], now)
  if till ~= 0 then
    answer[7] = answer[7] + 1
    answer[#answer + 1] = marks[n]
    answer[#answer + 1] = till == -1 and -1 or till - now
  end
end

for n = 5, #KEYS, 2 do
  local ring = ring_read(KEYS[n], geometry, now)
  local in_flight, lost = leases_read(KEYS[n + 1], now)
  local today = ring.day_end > now
  local held = in_flight == 0 and 0 or math.max(0, ring.held - lost)
  for _, value in ipairs({
    ring.r, ring.t, ring.i, ring.o + held, in_flight,
    today and ring.day_end or 0, today and ring.day_r or 0, today and ring.day_t or 0,
  }) do
    answer[#answer + 1] = value
  end
end
return answer
