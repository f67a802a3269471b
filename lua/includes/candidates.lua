-- A candidate: a key with its limits, and what the request at hand would add to them.
--   row      "p:<provider>|k:<key id>|g:<provider>/<group>|rpm|tpm|itpm|otpm|rpd|tpd|max_parallel|
--            burst slots|burst requests|number of its weights|s:<service>"; 0 is no limit
--   weights  "tokens|input tokens|output tokens held|end of day in ms"

local WHY = {cooling = 1, too_large = 2, full = 3, in_flight = 4, queued = 5, broken = 6}
local NEVER = -2
local CANDIDATE_ROW =
  '^([^|]*)|([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(.*)$'

local function weights_read(text)
  local t, i, o, day_end = string.match(text, '^(%d+)|(%d+)|(%d+)|(%d+)$')
  return {t = tonumber(t), i = tonumber(i), o = tonumber(o), day_end = tonumber(day_end)}
end

-- Its weights, which `w` is to be set to, are the number `weights` of those that are given.
local function candidate_read(row, ring_key, leases_key, health_key)
  local provider, key, group, rpm, tpm, itpm, otpm, rpd, tpd, parallel, slots, burst, weights,
    service = string.match(row, CANDIDATE_ROW)
  return {
    ring_key = ring_key, leases_key = leases_key, health_key = health_key,
    provider = provider, key = key, group = group, service = service, weights = tonumber(weights),
    rpm = tonumber(rpm), tpm = tonumber(tpm), itpm = tonumber(itpm), otpm = tonumber(otpm),
    rpd = tonumber(rpd), tpd = tonumber(tpd), parallel = tonumber(parallel),
    burst_slots = tonumber(slots), burst = tonumber(burst),
  }
end

-- Until when the candidate is passed over, and why: 0 if it is not, -1 until somebody acts. Notes
-- what comes back: `probes`, the fields that its next request tries, and `share`, what part of its
-- limits may be used; and `changes`, how often keys were changed at run time.
local function candidate_blocked(c, now)
  local fields = {c.provider, c.key, c.group, 'c:' .. c.key, 'c:' .. c.service, '#changes'}
  local marks = redis.call('HMGET', c.health_key, unpack(fields))
  local till, why = 0, WHY.cooling
  c.share, c.probes = 1, nil
  c.changes = marks[6] and select(4, health_read(marks[6])) or 0
  for n = 1, 5 do
    local value = marks[n]
    if value then
      local one = health_until(value, now)
      if one == -1 then
        return -1, WHY.cooling
      elseif one > till then
        till, why = one, n > 3 and WHY.broken or WHY.cooling
      end
      local share, since, whole = health_share(value, now)
      if share < c.share then
        c.share, c.ramp_since, c.ramp_till = share, since, whole
      end
      if health_needs_probe(value, now) then
        c.probes = c.probes or {}
        c.probes[#c.probes + 1] = {fields[n], value, n > 3 and 'trying' or 'probing'}
      end
    end
  end
  return till, why
end

local function candidate_too_large(c)
  local w = c.w
  return (c.tpm > 0 and w.t > c.tpm) or (c.itpm > 0 and w.i > c.itpm)
    or (c.otpm > 0 and w.o > c.otpm) or (c.tpd > 0 and w.t > c.tpd)
end

-- The group's ring at `now`, or at the head where requests are promised ahead of now.
local function candidate_ring(c, geometry, now)
  local ring = ring_read(c.ring_key, geometry, now)
  ring.in_flight = 0
  if c.otpm > 0 or c.parallel > 0 then
    local lost
    ring.in_flight, lost = leases_read(c.leases_key, now)
    ring.held = ring.in_flight == 0 and 0 or math.max(0, ring.held - lost)
  end
  if c.rpd > 0 or c.tpd > 0 then
    ring_roll_day(ring, c.w.day_end, now)
  end
  ring.bursting, ring.burst_opens = 0, 0
  if c.burst > 0 then
    ring.bursting, ring.burst_opens = ring_burst(ring, c.burst_slots, c.burst)
  end
  return ring
end

-- The share of the scarcest limit that would be left; negative where the request does not fit.
local function candidate_room(c, ring)
  local room, w = 1, c.w
  if c.share < 1 then
    -- Coming back from a cooldown: a part of its limits, but always room for one request.
    if ring.r > 0 and c.rpm > 0 then room = (c.rpm * c.share - ring.r - 1) / c.rpm end
    if ring.t > 0 and c.tpm > 0 then
      room = math.min(room, (c.tpm * c.share - ring.t - w.t) / c.tpm)
    end
    if room < 0 then
      return room
    end
  end
  if c.rpm > 0 then room = math.min(room, (c.rpm - ring.r - 1) / c.rpm) end
  if c.tpm > 0 then room = math.min(room, (c.tpm - ring.t - w.t) / c.tpm) end
  if c.itpm > 0 then room = math.min(room, (c.itpm - ring.i - w.i) / c.itpm) end
  if c.otpm > 0 then room = math.min(room, (c.otpm - ring.o - ring.held - w.o) / c.otpm) end
  if c.rpd > 0 then room = math.min(room, (c.rpd - ring.day_r - 1) / c.rpd) end
  if c.tpd > 0 then room = math.min(room, (c.tpd - ring.day_t - w.t) / c.tpd) end
  if c.parallel > 0 then room = math.min(room, (c.parallel - ring.in_flight - 1) / c.parallel) end
  if c.burst > 0 then room = math.min(room, (c.burst - ring.bursting - 1) / c.burst) end
  return room
end

local function missing(limit, used, added)
  return limit > 0 and math.max(0, used + added - limit) or 0
end

-- While the share of its limits grows: the ms at which it is large enough, or whole.
local function candidate_ramped(c, ring)
  local share = 0
  if c.rpm > 0 then share = (ring.r + 1) / c.rpm end
  if c.tpm > 0 then share = math.max(share, (ring.t + c.w.t) / c.tpm) end
  return c.ramp_since + math.ceil(math.min(1, share) * (c.ramp_till - c.ramp_since))
end

-- Why a full candidate is full, and the millisecond at which it has room.
local function candidate_opening(c, ring, now)
  local till, w = ring.burst_opens, c.w
  if c.share < 1 then
    till = math.max(till, candidate_ramped(c, ring))
  end
  local r, t = missing(c.rpm, ring.r, 1), missing(c.tpm, ring.t, w.t)
  local i, o = missing(c.itpm, ring.i, w.i), missing(c.otpm, ring.o, w.o)
  if r + t + i + o > 0 then
    till = math.max(till, ring_opening(ring, r, t, i, o))
  end
  if missing(c.rpd, ring.day_r, 1) + missing(c.tpd, ring.day_t, w.t) > 0 then
    till = math.max(till, ring.day_end)
  end
  if till > now then
    return WHY.full, till
  end
  -- Only calls under way stand in the way: a settlement opens it, at the latest a lease's end.
  local first = redis.call('ZRANGEBYSCORE', c.leases_key, '(' .. now, '+inf', 'WITHSCORES',
    'LIMIT', 0, 1)
  return WHY.in_flight, tonumber(first[2]) or now + 1
end

-- A candidate that cools down can be full as well: when it is free of both.
local function candidate_free_after(c, geometry, blocked, now)
  local ring = candidate_ring(c, geometry, now)
  if candidate_room(c, ring) >= 0 then
    return blocked
  end
  local _, till = candidate_opening(c, ring, now)
  return math.max(blocked, till)
end

-- Charge the candidate at the ring's head and write it. Returns the slot that was charged, and the
-- output tokens that its lease holds, -1 where the candidate has no leases.
local function candidate_reserve(c, ring, id, lease_ms, now)
  local changes, w = {}, c.w
  ring_add(ring, changes, ring.head, 1, w.t, w.i, 0)
  if c.rpd > 0 or c.tpd > 0 then
    ring.day_r, ring.day_t = ring.day_r + 1, ring.day_t + w.t
  end
  local held = -1
  if c.otpm > 0 or c.parallel > 0 then
    held = w.o
    ring.held = ring.held + held
    leases_add(c.leases_key, id, held, now + lease_ms, now)
  end
  ring_write(ring, changes, now)
  if ring.held > 0 then
    local rest = lease_ms + 2 * ring.geometry.window
    redis.call('PEXPIRE', ring.key, math.max(rest, redis.call('PTTL', ring.key)))
  end
  for _, probe in ipairs(c.probes or {}) do
    local field, value, state = unpack(probe)
    local _, _, _, times = health_read(value)
    health_write(c.health_key, field, now + math.min(lease_ms, PROBE_MS), state, times, id)
  end
  return ring.head, held
end
