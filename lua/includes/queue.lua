-- Requests that wait for room in a quota group, served first come first served.
--   queue      sorted set a group, by priority, then arrival: "<id>#<lease ms>#<weights>#<row>" (see
--              candidates.lua). A request waits in the queue of every group that may serve it and
--              leaves the others lazily, once `waiters` says that it waits no more.
--   waiters    hash by id: "W#<channel>#<held group>#<deadline ms>" while it waits, then
--              "G#<key>#<slot>#<t>#<i>#<held>#<at ms>"; "#seq" numbers the arrivals
--   deadlines  sorted set of ids by the ms at which `waiters` can forget them
-- A request that does not fit holds one group, the one in which it can hope to be served first:
-- nobody who came later takes that group's room. In the queues of the other groups smaller ones may
-- pass it.
-- Turns are told on the channel of the process that waits:
--   "G#<id>#<key>#<at ms>#<now ms>"    its turn: send at that time; it is charged already
--   "T#<group>#<at ms>#<now ms>"       call wake.lua for this group then

local QUEUE_LOOK = 32
local QUEUE_AHEAD = 8
local QUEUE_MEMBER = '^([^#]+)#(%d+)#([^#]+)#(.+)$'

-- pool: {health, waiters, deadlines} are key names; life: ms that a turn's record is kept;
-- heard: whether the number of a channel's listeners can be trusted (not on a cluster).
local function queue_forget(pool, id)
  redis.call('HDEL', pool.waiters, id)
  redis.call('ZREM', pool.deadlines, id)
end

local function queue_tell(pool, channel, message)
  return redis.call('PUBLISH', channel, message) > 0 or not pool.heard
end

local function queue_waiter(pool, id)
  local state = redis.call('HGET', pool.waiters, id)
  if state then
    return string.match(state, '^W#([^#]*)#([^#]*)#(%d+)$')
  end
end

-- When the next request of this group can be sent: now, or after those that were promised ahead.
local function queue_at(ring, now)
  if ring.promised > math.floor(now * ring.geometry.slots / ring.geometry.window) then
    return math.max(now, ring_slot_start(ring.geometry, ring.promised))
  end
  return now
end

-- It is this request's turn at the ms `at`.
local function queue_grant(pool, c, ring, id, lease_ms, now, at)
  if at > now then
    ring.promised = ring.head
  end
  local slot, held = candidate_reserve(c, ring, id, lease_ms, now)
  redis.call('HSET', pool.waiters, id,
    string.format('G#%s#%d#%d#%d#%d#%d', c.key, slot, c.w.t, c.w.i, held, at))
  redis.call('ZADD', pool.deadlines, at + pool.life, id)
end

-- May a request that fits only later be told its time now? Not long ahead: what calls under way give
-- back, or were sent late, can still change the slots that are yet to age.
local function queue_may_promise(c, ring, why, till, now)
  return why == WHY.full and c.otpm == 0 and c.parallel == 0
    and till - now <= ring.geometry.window / QUEUE_AHEAD
end

-- When to look again at a group whose next request fits at `till`: once those are through who were
-- promised, so that several more can be promised in one go.
local function queue_look(ring, till, now)
  local at = queue_at(ring, now)
  return at > now and math.min(till, at) or till
end

-- Serve one waiting request if it can be. Returns 'served', 'gone', 'passed' or 'held', and for
-- the last two the ms at which to look again (0 unknown).
local function queue_serve(pool, queue_key, ring_key, leases_key, geometry, member, now)
  local id, lease_ms, weights, row = string.match(member, QUEUE_MEMBER)
  local channel, held_group, deadline = queue_waiter(pool, id)
  if not channel or tonumber(deadline) <= now then
    redis.call('ZREM', queue_key, member)
    if channel then
      queue_forget(pool, id)
    end
    return 'gone'
  end
  local c = candidate_read(row, ring_key, leases_key, pool.health)
  c.w = weights_read(weights)
  local blocked = candidate_blocked(c, now)
  if blocked ~= 0 then
    return 'passed', math.max(0, blocked), channel
  end
  local ring = candidate_ring(c, geometry, now)
  local at = queue_at(ring, now)
  if candidate_room(c, ring) < 0 then
    local why, till = candidate_opening(c, ring, now)
    if till >= tonumber(deadline) then
      return 'passed', till, channel
    elseif not queue_may_promise(c, ring, why, till, now) then
      return c.group == held_group and 'held' or 'passed', queue_look(ring, till, now), channel
    end
    ring, at = candidate_ring(c, geometry, till), till
    if candidate_room(c, ring) < 0 then
      return 'held', till, channel
    end
  end
  redis.call('ZREM', queue_key, member)
  if not queue_tell(pool, channel, string.format('G#%s#%s#%d#%d', id, c.key, at, now)) then
    queue_forget(pool, id)
    return 'gone'
  end
  queue_grant(pool, c, ring, id, tonumber(lease_ms), now, at)
  return 'served'
end

-- Serve whoever can be served in this group, in order, and see to it that somebody looks again.
local function queue_drain(pool, queue_key, ring_key, leases_key, geometry, now)
  local look, watcher, group
  for _, member in ipairs(redis.call('ZRANGE', queue_key, 0, QUEUE_LOOK - 1)) do
    local what, till, channel =
      queue_serve(pool, queue_key, ring_key, leases_key, geometry, member, now)
    if till and till > 0 and (not look or till < look) then
      look, watcher, group = till, channel, string.match(member, '|(g:[^|]*)|')
    end
    if what == 'held' then
      break
    end
  end
  if look and not queue_tell(pool, watcher, string.format('T#%s#%d#%d', group, look, now)) then
    look = nil -- the process that would have looked is gone
  end
  local ring = ring_read(ring_key, geometry, now)
  local queued = redis.call('EXISTS', queue_key)
  local watched = look or 0
  if ring.queued ~= queued or ring.watched ~= watched then
    ring.queued, ring.watched = queued, watched
    ring_write(ring, {}, now)
  end
end

-- When a newcomer can hope to be served: after those who wait already, at the pace of the limits.
local function queue_hope(c, queue_key, till, window)
  local ahead = redis.call('ZCARD', queue_key)
  local pace = 0
  if c.rpm > 0 then pace = window / c.rpm end
  if c.tpm > 0 then pace = math.max(pace, window * c.w.t / c.tpm) end
  if c.itpm > 0 then pace = math.max(pace, window * c.w.i / c.itpm) end
  return till + ahead * pace
end
