--[[
Choose a key and reserve one request's use on it, in one step; or join the queue for one.

KEYS  1  the reservation
      2  health
      3  waiters
      4  deadlines
      then 3 a candidate: its quota group's ring, its leases, its queue
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  life of the reservation's record, ms
      6  lease of what does not age, ms
      7  rotation: a number that moves equal candidates round
      8  reservation id
      9  how long the request may wait, ms; 0 not at all
      10 priority of a request that waits: higher is served first
      11 channel on which it is told of its turn, '' if it may not wait
      12 1 if the number of a channel's listeners can be trusted (not on a cluster)
      13 W, the number of weights
      14 sizes of the tiers, "3,2": the first three candidates are tried before the other two
      15 the epoch in which the router believes to be (see beat.lua), '' where it knows none
      then W weights, and the candidates' rows (see includes/candidates.lua)

Within a tier the candidate with the largest share of room left wins; one that has at least half
of it left is taken at once, so that the cost does not grow with the pool while there is room.

Returns {1, now, changes, candidate, slot, passed over ...}  reserved; slot: where it was charged
        {0, now, changes, when, passed over ...}  no room; when: ms of the next opening, -1 unknown,
                                                  -2 never
        {2, now, changes, (candidate, ms) ...}  it waits; for each candidate named, wake.lua is to
                                                be called at that time, as nobody else will
        {3, now} this is another epoch: nothing was changed
   "changes" is how often keys were changed at run time (see lifecycle.lua), -1 if it was not read
   "passed over" is three numbers each: candidate, why (see WHY in candidates.lua), until when in ms
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"
--- @include "candidates"
--- @include "queue"

local now = read_clock(ARGV[1])
if ARGV[15] ~= '' and redis.call('HGET', KEYS[3], '#epoch') ~= ARGV[15] then
  return {3, now}
end
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local id, lease_ms, max_wait = ARGV[8], tonumber(ARGV[6]), tonumber(ARGV[9])

-- The same call sent twice gets the same answer.
local record = redis.call('GET', KEYS[1])
if record then
  local index, slot = string.match(record, '^%a:(%d+):(%d+):')
  return {1, now, -1, tonumber(index), tonumber(slot)}
elseif max_wait > 0 and redis.call('HEXISTS', KEYS[3], id) == 1 then
  return {2, now, -1}
end

local pool = {
  health = KEYS[2], waiters = KEYS[3], deadlines = KEYS[4],
  life = tonumber(ARGV[5]), heard = ARGV[12] == '1',
}
local first_weights, first_candidate = 16, 16 + tonumber(ARGV[13])

local weights = {}
local function candidate_at(index)
  local base = 2 + 3 * index
  local c = candidate_read(ARGV[first_candidate + index - 1], KEYS[base], KEYS[base + 1], KEYS[2])
  c.queue_key = KEYS[base + 2]
  c.w = weights[c.weights]
  if not c.w then
    c.w = weights_read(ARGV[first_weights + c.weights - 1])
    weights[c.weights] = c.w
  end
  return c
end

-- How a candidate stands in its queue.
local function member_at(index, c)
  return table.concat({
    id, lease_ms, ARGV[first_weights + c.weights - 1], ARGV[first_candidate + index - 1],
  }, '#')
end

-- How often keys were changed at run time, -1 while it is not known.
local changes = -1

-- The ring and its room where the candidate can serve now, else nil, why, and until when.
local function examine(c)
  local blocked, because = candidate_blocked(c, now)
  changes = c.changes
  if blocked == -1 then
    return nil, because, blocked
  elseif candidate_too_large(c) then
    return nil, WHY.too_large, NEVER
  elseif blocked > 0 then
    return nil, because, candidate_free_after(c, geometry, blocked, now)
  end
  local ring = candidate_ring(c, geometry, now)
  local room = candidate_room(c, ring)
  if room >= 0 and ring.queued == 1 then
    queue_drain(pool, c.queue_key, c.ring_key, c.leases_key, geometry, now)
    ring = candidate_ring(c, geometry, now)
    room = candidate_room(c, ring)
  end
  if room < 0 then
    return nil, candidate_opening(c, ring, now)
  end
  local at = queue_at(ring, now)
  if ring.queued == 1 or at > now then
    return nil, WHY.queued, math.max(now + 1, at)
  end
  return ring, room
end

-- Wait in the queue of every group that can ever serve, and hold one of them. Returns nil where no
-- opening is to be hoped for in time.
local function join_queue(refused)
  local deadline = now + max_wait
  local held, first, hope
  for _, r in ipairs(refused) do
    if r[3] > 0 then
      hope = hope or r[3] <= deadline or r[2] == WHY.in_flight or r[2] == WHY.queued
      local c = candidate_at(r[1])
      local at = queue_hope(c, c.queue_key, r[3], geometry.window)
      if not first or at < first then
        held, first = r[1], at
      end
    end
  end
  if not hope then
    return nil
  end
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', pool.deadlines, '-inf', now, 'LIMIT', 0, 20)) do
    queue_forget(pool, old)
  end
  local place = redis.call('HINCRBY', pool.waiters, '#seq', 1) - tonumber(ARGV[10]) * 4294967296
  redis.call('HSET', pool.waiters, id,
    string.format('W#%s#%s#%d', ARGV[11], candidate_at(held).group, deadline))
  redis.call('ZADD', pool.deadlines, deadline, id)
  local answer = {2, now, changes}
  for _, r in ipairs(refused) do
    if r[3] > 0 then
      local c = candidate_at(r[1])
      redis.call('ZADD', c.queue_key, place, member_at(r[1], c))
      redis.call('PEXPIRE', c.queue_key, math.max(2 * max_wait, redis.call('PTTL', c.queue_key)))
      local ring = ring_read(c.ring_key, geometry, now)
      local unwatched = r[1] == held and ring.watched <= now
      if ring.queued == 0 or unwatched then
        ring.queued = 1
        ring.watched = unwatched and r[3] or ring.watched
        ring_write(ring, {}, now)
      end
      if unwatched then
        answer[#answer + 1], answer[#answer + 2] = r[1], r[3]
      end
      if r[2] == WHY.queued then
        queue_drain(pool, c.queue_key, c.ring_key, c.leases_key, geometry, now)
      end
    end
  end
  return answer
end

local refused = {}
local best, best_ring, best_room, best_at
local tier_start, rotation = 1, tonumber(ARGV[7])
for size in string.gmatch(ARGV[14], '%d+') do
  size = tonumber(size)
  for n = 0, size - 1 do
    local at = tier_start + (rotation + n) % size
    local candidate = candidate_at(at)
    local ring, room, till = examine(candidate)
    if not ring then
      refused[#refused + 1] = {at, room, till}
    elseif not best or room > best_room then
      best, best_ring, best_room, best_at = candidate, ring, room, at
      if room >= 0.5 then
        break
      end
    end
  end
  if best then
    break
  end
  tier_start = tier_start + size
end

local answer
if best then
  local slot, held = candidate_reserve(best, best_ring, id, lease_ms, now)
  redis.call('SET', KEYS[1],
    string.format('R:%d:%d:%d:%d:%d', best_at, slot, best.w.t, best.w.i, held), 'PX', ARGV[5])
  answer = {1, now, changes, best_at, slot}
else
  answer = max_wait > 0 and join_queue(refused)
  if answer then
    return answer
  end
  local when = NEVER
  for _, r in ipairs(refused) do
    local till = r[3]
    if till > 0 and (when < 0 or till < when) then
      when = till
    elseif till == -1 and when == NEVER then
      when = -1
    end
  end
  answer = {0, now, changes, when}
end
for _, r in ipairs(refused) do
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = r[1], r[2], r[3]
end
return answer
