--[[
Choose a key and reserve one request's use on it, in one step.

KEYS  1                the reservation
      2 .. 1+P         health of each provider
      then 2 a candidate: its quota group's ring, its leases
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  life of the reservation's record, ms
      6  lease of what does not age, ms
      7  rotation: a number that moves equal candidates round
      8  reservation id
      9  P, the number of providers
      10 W, the number of weights
      11 sizes of the tiers, "3,2": the first three candidates are tried before the other two
      then W weights, "tokens|input tokens|output tokens held|end of day in ms"
      then the candidates, "provider 1..P|weights 1..W|k:<key id>|g:<group>|rpm|tpm|itpm|otpm|rpd|
         tpd|max_parallel|burst slots|burst requests"; 0 is no limit

Within a tier the candidate with the largest share of room left wins; one that has at least half
of it left is taken at once, so that the cost does not grow with the pool while there is room.

Returns {1, now, candidate, slot, passed over ...}  reserved; slot is where it was charged
        {0, now, when, passed over ...}             no room; when: ms of the next opening, -1 unknown,
                                                    -2 never (too large for every candidate)
   "passed over" is three numbers each: candidate, why (see passed_over below), until when in ms
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "leases"

local now = read_clock(ARGV[1])
local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local providers = tonumber(ARGV[9])

local record = redis.call('GET', KEYS[1])
if record then
  -- The same call sent twice: the same answer.
  local candidate, slot = string.match(record, '^%a:(%d+):(%d+):')
  return {1, now, tonumber(candidate), tonumber(slot)}
end

local passed_over = {cooling = 1, too_large = 2, full = 3, in_flight = 4}
local NEVER = -2
local ENOUGH = 0.5
local first_weight, first_candidate = 12, 12 + tonumber(ARGV[10])
local ROW = '^(%d+)|(%d+)|([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)$'

local weights = {}
local function weights_of(n)
  if not weights[n] then
    local t, i, o, day_end = string.match(ARGV[first_weight + n - 1], '^(%d+)|(%d+)|(%d+)|(%d+)$')
    weights[n] = {t = tonumber(t), i = tonumber(i), o = tonumber(o), day_end = tonumber(day_end)}
  end
  return weights[n]
end

local function candidate_at(c)
  local provider, weight, key, group, rpm, tpm, itpm, otpm, rpd, tpd, parallel, slots, burst =
    string.match(ARGV[first_candidate + c - 1], ROW)
  return {
    ring_key = KEYS[providers + 2 * c], leases_key = KEYS[providers + 2 * c + 1],
    health_key = KEYS[1 + tonumber(provider)], key = key, group = group,
    w = weights_of(tonumber(weight)),
    rpm = tonumber(rpm), tpm = tonumber(tpm), itpm = tonumber(itpm), otpm = tonumber(otpm),
    rpd = tonumber(rpd), tpd = tonumber(tpd), parallel = tonumber(parallel),
    burst_slots = tonumber(slots), burst = tonumber(burst),
  }
end

-- Until when the candidate is passed over: 0 if it is not, -1 until somebody acts.
local function blocked_until(candidate)
  local marks = redis.call('HMGET', candidate.health_key, 'p', candidate.key, candidate.group)
  local till = 0
  for n = 1, 3 do
    local one = marks[n] and health_until(marks[n], now) or 0
    if one == -1 then
      return -1
    end
    till = math.max(till, one)
  end
  return till
end

-- The share of the scarcest limit that would be left; negative where the request does not fit.
local function room_in(c, ring, in_flight, bursting)
  local room, w = 1, c.w
  if c.rpm > 0 then room = (c.rpm - ring.r - 1) / c.rpm end
  if c.tpm > 0 then room = math.min(room, (c.tpm - ring.t - w.t) / c.tpm) end
  if c.itpm > 0 then room = math.min(room, (c.itpm - ring.i - w.i) / c.itpm) end
  if c.otpm > 0 then room = math.min(room, (c.otpm - ring.o - ring.held - w.o) / c.otpm) end
  if c.rpd > 0 then room = math.min(room, (c.rpd - ring.day_r - 1) / c.rpd) end
  if c.tpd > 0 then room = math.min(room, (c.tpd - ring.day_t - w.t) / c.tpd) end
  if c.parallel > 0 then room = math.min(room, (c.parallel - in_flight - 1) / c.parallel) end
  if c.burst > 0 then room = math.min(room, (c.burst - bursting - 1) / c.burst) end
  return room
end

local function missing(limit, used, added)
  return limit > 0 and math.max(0, used + added - limit) or 0
end

-- Why a full candidate is full, and the millisecond at which it has room.
local function opening_of(c, ring, burst_opens)
  local till, w = burst_opens, c.w
  local r, t = missing(c.rpm, ring.r, 1), missing(c.tpm, ring.t, w.t)
  local i, o = missing(c.itpm, ring.i, w.i), missing(c.otpm, ring.o, w.o)
  if r + t + i + o > 0 then
    till = math.max(till, ring_opening(ring, r, t, i, o))
  end
  if missing(c.rpd, ring.day_r, 1) + missing(c.tpd, ring.day_t, w.t) > 0 then
    till = math.max(till, ring.day_end)
  end
  if till > now then
    return passed_over.full, till
  end
  -- Only calls under way stand in the way: a settlement opens it, at the latest a lease's end.
  local first = redis.call('ZRANGEBYSCORE', c.leases_key, '(' .. now, '+inf', 'WITHSCORES',
    'LIMIT', 0, 1)
  return passed_over.in_flight, tonumber(first[2]) or now + 1
end

local function too_large(c)
  local w = c.w
  return (c.tpm > 0 and w.t > c.tpm) or (c.itpm > 0 and w.i > c.itpm)
    or (c.otpm > 0 and w.o > c.otpm) or (c.tpd > 0 and w.t > c.tpd)
end

-- Returns the ring and its room where the candidate fits, else nil, why, and until when.
local function examine(c)
  local blocked = blocked_until(c)
  if blocked ~= 0 then
    return nil, passed_over.cooling, blocked
  elseif too_large(c) then
    return nil, passed_over.too_large, NEVER
  end
  local ring = ring_read(c.ring_key, geometry, now)
  local in_flight, bursting, burst_opens = 0, 0, 0
  if c.otpm > 0 or c.parallel > 0 then
    local lost
    in_flight, lost = leases_read(c.leases_key, now)
    ring.held = math.max(0, ring.held - lost)
  end
  if c.rpd > 0 or c.tpd > 0 then
    ring_roll_day(ring, c.w.day_end, now)
  end
  if c.burst > 0 then
    bursting, burst_opens = ring_burst(ring, c.burst_slots, c.burst)
  end
  local room = room_in(c, ring, in_flight, bursting)
  if room >= 0 then
    return ring, room
  end
  return nil, opening_of(c, ring, burst_opens)
end

local function reserve_on(c, ring, index)
  local changes, w = {}, c.w
  ring_add(ring, changes, ring.head, 1, w.t, w.i, 0)
  if c.rpd > 0 or c.tpd > 0 then
    ring.day_r, ring.day_t = ring.day_r + 1, ring.day_t + w.t
  end
  if c.otpm > 0 or c.parallel > 0 then
    ring.held = ring.held + w.o
    leases_add(c.leases_key, ARGV[8], w.o, now + tonumber(ARGV[6]), now)
  end
  ring_write(ring, changes, now)
  redis.call('SET', KEYS[1],
    string.format('R:%d:%d:%d:%d:%d', index, ring.head, w.t, w.i, w.o), 'PX', ARGV[5])
end

local refused = {}
local best, best_ring, best_room, best_at
local tier_start, rotation = 1, tonumber(ARGV[7])
for size in string.gmatch(ARGV[11], '%d+') do
  size = tonumber(size)
  for n = 0, size - 1 do
    local at = tier_start + (rotation + n) % size
    local candidate = candidate_at(at)
    local ring, room, till = examine(candidate)
    if not ring then
      refused[#refused + 1] = {at, room, till}
    elseif not best or room > best_room then
      best, best_ring, best_room, best_at = candidate, ring, room, at
      if room >= ENOUGH then
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
  reserve_on(best, best_ring, best_at)
  answer = {1, now, best_at, best_ring.head}
else
  local when = NEVER
  for _, r in ipairs(refused) do
    local till = r[3]
    if till > 0 and (when < 0 or till < when) then
      when = till
    elseif till == -1 and when == NEVER then
      when = -1
    end
  end
  answer = {0, now, when}
end
for _, r in ipairs(refused) do
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = r[1], r[2], r[3]
end
return answer
