--[[
Charge buckets with what was taken from them while Redis was away; they may be overdrawn by it.

KEYS  1  limits of users who have one of their own: user id -> "<rpm>:<burst>"
      then the buckets (see user_limits.lua)
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  the minute in ms
      then for each bucket its rpm, user id ('' for all users) and the requests that were taken

Returns {now}
]]
--- @include "clock"

local now = read_clock(ARGV[1])
local minute = tonumber(ARGV[2])
for n = 2, #KEYS do
  local first = 3 * n - 3
  local rpm, user, taken = tonumber(ARGV[first]), ARGV[first + 1], tonumber(ARGV[first + 2])
  local own = user ~= '' and redis.call('HGET', KEYS[1], user)
  rpm = tonumber(string.match(own or '', '^(%d+):')) or rpm
  local debt, at = string.match(redis.call('GET', KEYS[n]) or '', '^(%d+):(%d+)$')
  debt, at = tonumber(debt or '0'), tonumber(at or now)
  debt = math.max(0, debt - math.max(0, now - at) * rpm) + taken * minute
  redis.call('SET', KEYS[n], string.format('%.0f:%.0f', debt, math.max(now, at)),
    'PX', string.format('%.0f', math.ceil(debt / rpm) + minute))
end
return {now}
