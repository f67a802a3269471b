--[[
Tell what keys have used. Changes nothing.

KEYS  1  health
      then 2 a key: its quota group's ring, its leases
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      then for each key "p:<provider>|k:<key id>|g:<provider>/<group>"

Returns {now, then for each key nine values: requests, tokens, input tokens, output tokens, output
         tokens held, calls under way, requests today, tokens today, mark or ''}; a mark is that of
         the key, else of its group, else of its provider: "until_ms|state|reason"
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))

local function mark_of(field)
  local value = redis.call('HGET', KEYS[1], field)
  if value and health_until(value, now) ~= 0 then
    return value
  end
  return ''
end

local answer = {now}
for n = 1, #ARGV - 4 do
  local ring = ring_read(KEYS[2 * n], geometry, now)
  local in_flight, lost = leases_read(KEYS[2 * n + 1], now)
  local today = ring.day_end > now
  local provider, key, group = string.match(ARGV[n + 4], '^([^|]*)|([^|]*)|([^|]*)$')
  local mark = mark_of(key)
  if mark == '' then
    mark = mark_of(group)
  end
  if mark == '' then
    mark = mark_of(provider)
  end
  for _, value in ipairs({
    ring.r, ring.t, ring.i, ring.o, math.max(0, ring.held - lost), in_flight,
    today and ring.day_r or 0, today and ring.day_t or 0, mark,
  }) do
    answer[#answer + 1] = value
  end
end
return answer
