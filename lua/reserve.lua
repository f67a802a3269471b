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
      10 weights as JSON: rows of [tokens, input tokens, output tokens held, end of day in ms]
      11 candidates as JSON, in the order in which they are tried: rows of
         [tier, provider 1..P, weights row 1.., "k:<key id>", "g:<group>", rpm, tpm, itpm, otpm,
          rpd, tpd, max_parallel, burst slots, burst requests]; 0 is no limit

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

local weights = cjson.decode(ARGV[10])
local candidates = cjson.decode(ARGV[11])
local passed_over = {cooling = 1, too_large = 2, full = 3, in_flight = 4}
local NEVER = -2

local function read_health()
  local blocked = {}
  for p = 1, providers do
    local fields, where = {'p'}, {}
    for c, row in ipairs(candidates) do
      if row[2] == p then
        where[#where + 1] = c
        fields[#fields + 1] = row[4]
        fields[#fields + 1] = row[5]
      end
    end
    local values = redis.call('HMGET', KEYS[1 + p], unpack(fields))
    local whole = health_until(values[1], now)
    for n, c in ipairs(where) do
      local key = health_until(values[2 * n], now)
      local group = health_until(values[2 * n + 1], now)
      if whole == -1 or key == -1 or group == -1 then
        blocked[c] = -1
      else
        blocked[c] = math.max(whole, key, group)
      end
    end
  end
  return blocked
end

-- The share of the scarcest limit that would be left; negative where the request does not fit.
local function room_in(row, w, ring, in_flight, bursting)
  local room = 1
  local rpm, tpm, itpm, otpm, rpd, tpd = row[6], row[7], row[8], row[9], row[10], row[11]
  if rpm > 0 then room = (rpm - ring.r - 1) / rpm end
  if tpm > 0 then room = math.min(room, (tpm - ring.t - w[1]) / tpm) end
  if itpm > 0 then room = math.min(room, (itpm - ring.i - w[2]) / itpm) end
  if otpm > 0 then room = math.min(room, (otpm - ring.o - ring.held - w[3]) / otpm) end
  if rpd > 0 then room = math.min(room, (rpd - ring.day_r - 1) / rpd) end
  if tpd > 0 then room = math.min(room, (tpd - ring.day_t - w[1]) / tpd) end
  if row[12] > 0 then room = math.min(room, (row[12] - in_flight - 1) / row[12]) end
  if row[14] > 0 then room = math.min(room, (row[14] - bursting - 1) / row[14]) end
  return room
end

local function missing(limit, used, added)
  return limit > 0 and math.max(0, used + added - limit) or 0
end

-- Why a full candidate is full, and the millisecond at which it has room.
local function opening_of(c, row, w, ring, burst_opens)
  local till = burst_opens
  local r, t = missing(row[6], ring.r, 1), missing(row[7], ring.t, w[1])
  local i, o = missing(row[8], ring.i, w[2]), missing(row[9], ring.o, w[3])
  if r + t + i + o > 0 then
    till = math.max(till, ring_opening(ring, r, t, i, o))
  end
  if missing(row[10], ring.day_r, 1) + missing(row[11], ring.day_t, w[1]) > 0 then
    till = math.max(till, ring.day_end)
  end
  if till > now then
    return passed_over.full, till
  end
  -- Only calls under way stand in the way: a settlement opens it, at the latest a lease's end.
  local first = redis.call('ZRANGEBYSCORE', KEYS[providers + 2 * c + 1],
    '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return passed_over.in_flight, tonumber(first[2]) or now + 1
end

-- Returns the ring and its room where the candidate fits, else nil, why, and until when.
local function examine(c)
  local row = candidates[c]
  local w = weights[row[3]]
  local tpm, itpm, otpm, tpd = row[7], row[8], row[9], row[11]
  if (tpm > 0 and w[1] > tpm) or (itpm > 0 and w[2] > itpm) or (otpm > 0 and w[3] > otpm)
    or (tpd > 0 and w[1] > tpd) then
    return nil, passed_over.too_large, NEVER
  end
  local ring = ring_read(KEYS[providers + 2 * c], geometry, now)
  local in_flight, bursting, burst_opens = 0, 0, 0
  if otpm > 0 or row[12] > 0 then
    local lost
    in_flight, lost = leases_read(KEYS[providers + 2 * c + 1], now)
    ring.held = math.max(0, ring.held - lost)
  end
  if row[10] > 0 or tpd > 0 then
    ring_roll_day(ring, w[4], now)
  end
  if row[14] > 0 then
    bursting, burst_opens = ring_burst(ring, row[13], row[14])
  end
  local room = room_in(row, w, ring, in_flight, bursting)
  if room >= 0 then
    return ring, room
  end
  return nil, opening_of(c, row, w, ring, burst_opens)
end

local blocked = read_health()
local refused = {}
local best, best_room, best_at
local count = #candidates
local start = tonumber(ARGV[7])
local tier_start = 1
while tier_start <= count and not best do
  local tier_end = tier_start
  while tier_end < count and candidates[tier_end + 1][1] == candidates[tier_start][1] do
    tier_end = tier_end + 1
  end
  local size = tier_end - tier_start + 1
  for n = 0, size - 1 do
    local c = tier_start + (start + n) % size
    if blocked[c] ~= 0 then
      refused[#refused + 1] = {c, passed_over.cooling, blocked[c]}
    else
      local ring, room, till = examine(c)
      if not ring then
        refused[#refused + 1] = {c, room, till}
      elseif not best or room > best_room then
        best, best_room, best_at = ring, room, c
      end
    end
  end
  tier_start = tier_end + 1
end

local answer
if best then
  local row = candidates[best_at]
  local w = weights[row[3]]
  local ring, changes = best, {}
  ring_add(ring, changes, ring.head, 1, w[1], w[2], 0)
  if row[10] > 0 or row[11] > 0 then
    ring.day_r, ring.day_t = ring.day_r + 1, ring.day_t + w[1]
  else
    ring.day_end = 0
  end
  if row[9] > 0 or row[12] > 0 then
    ring.held = ring.held + w[3]
    leases_add(KEYS[providers + 2 * best_at + 1], ARGV[8], w[3], now + tonumber(ARGV[6]), now)
  end
  ring_write(ring, changes, now)
  redis.call('SET', KEYS[1],
    string.format('R:%d:%d:%d:%d:%d', best_at, ring.head, w[1], w[2], w[3]), 'PX', ARGV[5])
  answer = {1, now, best_at, ring.head}
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
