--[[
Pass over a key, a quota group or a whole provider for a time, or clear such a mark.

KEYS  1  health
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      then 4 a mark: health field, state, milliseconds (-1: until somebody acts; -2: clear), reason

Returns {now, until in ms for each mark}; -1 until somebody acts, 0 cleared
]]
--- @include "clock"
--- @include "health"

local now = read_clock(ARGV[1])
local answer = {now}
for n = 2, #ARGV, 4 do
  local milliseconds = tonumber(ARGV[n + 2])
  if milliseconds == -2 then
    redis.call('HDEL', KEYS[1], ARGV[n])
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] =
      health_mark(KEYS[1], ARGV[n], ARGV[n + 1], milliseconds, ARGV[n + 3], now)
  end
end
return answer
