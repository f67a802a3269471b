--[[
Pass over a key, a quota group or a whole provider for a time, or end such a mark, as far as the
table of states (lua/states.py) allows it.

KEYS  1  health
      then the log of each mark's subject (see includes/audit.lua)
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  who does it
      then 5 a mark: health field, state, milliseconds (-1: until somebody acts; -2: end it), the
           longest that they may grow to (0: they do not), reason

Returns {now, until in ms for each mark}; -1 until somebody acts, 0 ended, -3 it is disabled
]]
--- @include "clock"
--- @include "health"
--- @include "states"
--- @include "audit"
--- @include "marks"

local now = read_clock(ARGV[1])
local answer = {now}
for n = 3, #ARGV, 5 do
  local log = {stream = KEYS[2 + (n - 3) / 5], who = ARGV[2], request = ''}
  local field, state, milliseconds, longest, reason =
    ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2]), tonumber(ARGV[n + 3]), ARGV[n + 4]
  if milliseconds ~= -2 then
    answer[#answer + 1] =
      health_mark(KEYS[1], field, state, milliseconds, longest, reason, now, log)
  elseif health_clear(KEYS[1], field, reason, now, log) then
    answer[#answer + 1] = 0
  else
    answer[#answer + 1] = -3
  end
end
return answer
