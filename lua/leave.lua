--[[
A request waits no longer: its time is up, or its caller gave up.

KEYS  1  waiters
      2  deadlines
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  reservation id

Returns {now} if it waited until now or is not known (any more), else {now, key, at}: it was its
turn meanwhile, it is reserved from the ms `at` on, and the caller sends or settles it
]]
--- @include "clock"

local now = read_clock(ARGV[1])
local state = redis.call('HGET', KEYS[1], ARGV[2])
local key, at = string.match(state or '', '^G#([^#]*)#.*#(%d+)$')
if key then
  return {now, key, tonumber(at)}
end
redis.call('HDEL', KEYS[1], ARGV[2])
redis.call('ZREM', KEYS[2], ARGV[2])
return {now}
