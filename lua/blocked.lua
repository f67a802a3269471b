--[[
Tell which keys, groups and providers are passed over now.

KEYS  1  health
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)

Returns their fields (see includes/health.lua), for an open circuit those of whom it is; what ended
long ago is forgotten on the way
]]
--- @include "clock"
--- @include "health"

local now = read_clock(ARGV[1])
local day = 86400000
local fields = {}
local marks = redis.call('HGETALL', KEYS[1])
for n = 1, #marks, 2 do
  if health_until(marks[n + 1], now) ~= 0 then
    fields[#fields + 1] = string.gsub(marks[n], '^c:', '')
  elseif string.sub(marks[n], 1, 1) ~= '#' then
    local till = health_read(marks[n + 1])
    if till ~= -1 and till < now - day then
      redis.call('HDEL', KEYS[1], marks[n])
    end
  end
end
return fields
