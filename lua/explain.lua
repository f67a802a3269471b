--[[
Tell why reserve.lua would choose each candidate or pass it over. Changes nothing.

KEYS  1  health
      then 3 a candidate: its quota group's ring, its leases, its queue
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  W, the number of weights
      then W weights, and the candidates' rows (see includes/candidates.lua)

Returns {now, then for each candidate: why (0 it has room, else see WHY in candidates.lua), until when
         in ms, thousandths of its scarcest limit that would be left, thousandths of its limits that
         it may use, requests that wait for it, and the eleven values of includes/use.lua}
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"
--- @include "candidates"
--- @include "queue"
--- @include "use"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local first = 6 + tonumber(ARGV[5])

-- Returns why, until when, and the room.
local function judge(c, ring, blocked, because)
  if blocked == -1 then
    return because, blocked, 0
  elseif candidate_too_large(c) then
    return WHY.too_large, NEVER, 0
  elseif blocked > 0 then
    return because, candidate_free_after(c, geometry, blocked, now), 0
  end
  local room = candidate_room(c, ring)
  if room < 0 then
    local why, till = candidate_opening(c, ring, now)
    return why, till, 0
  end
  local at = queue_at(ring, now)
  if ring.queued == 1 or at > now then
    return WHY.queued, at, room
  end
  return 0, 0, room
end

local answer = {now}
for n = first, #ARGV do
  local base = 2 + 3 * (n - first)
  local c = candidate_read(ARGV[n], KEYS[base], KEYS[base + 1], KEYS[1])
  c.w = weights_read(ARGV[5 + c.weights])
  local blocked, because = candidate_blocked(c, now)
  local ring = candidate_ring(c, geometry, now)
  local why, till, room = judge(c, ring, blocked, because)
  local size = #answer
  answer[size + 1], answer[size + 2], answer[size + 3] = why, till, math.floor(room * 1000)
  answer[#answer + 1] = math.floor(c.share * 1000)
  answer[#answer + 1] = redis.call('ZCARD', KEYS[base + 2])
  use_tell(answer, ring, c.leases_key, KEYS[1], {c.provider, c.key, c.group, c.service}, now)
end
return answer
