--[[
Serve the requests that wait for one quota group, as far as there is room, in their order.

KEYS  1  health
      2  waiters
      3  deadlines
      4  the group's ring
      5  its leases
      6  its queue
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  life of a reservation's record, ms
      6  1 if the number of a channel's listeners can be trusted (not on a cluster)

Returns {now}; turns are told on the channels of those who wait
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"
--- @include "candidates"
--- @include "queue"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local pool = {
  health = KEYS[1], waiters = KEYS[2], deadlines = KEYS[3],
  life = tonumber(ARGV[5]), heard = ARGV[6] == '1',
}
queue_drain(pool, KEYS[6], KEYS[4], KEYS[5], geometry, now)
return {now}
