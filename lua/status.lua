--[[
Tell what keys have used. Changes nothing.

KEYS  1  health
      then 2 a key: its quota group's ring, its leases
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      then for each key "p:<provider>|k:<key id>|g:<provider>/<group>|s:<service>"

Returns {now, then for each key eleven values: requests, tokens, input tokens, output tokens, output
         tokens held, calls under way, requests today, tokens today, mark or '', the key's circuit
         or '', its service's or ''}; a mark is the longest of the key's, its group's and its
         provider's: "until_ms|state|reason"
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"
--- @include "use"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))

local answer = {now}
for n = 1, #ARGV - 4 do
  local ring = ring_read(KEYS[2 * n], geometry, now)
  local subjects = {string.match(ARGV[n + 4], '^([^|]*)|([^|]*)|([^|]*)|([^|]*)$')}
  use_tell(answer, ring, KEYS[2 * n + 1], KEYS[1], subjects, now)
end
return answer
