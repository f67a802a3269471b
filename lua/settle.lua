--[[
Settle a reservation with what was really used, and say what its end means for the key.

KEYS  1  the reservation
      2  health
      3  waiters
      4  deadlines
      5  its quota group's ring
      6  the group's leases
      7  the group's queue
      8  what estimates have taught
      9  the versions of secrets (see lifecycle.lua)
      10 the key's log, 11 its group's, 12 its service's (see includes/audit.lua)
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  window in ms
      3  slots a window
      4  slots counted
      5  life of the settled record, ms
      6  reservation id
      7  requests used: 0 or 1
      8  tokens to be charged in all
      9  input tokens to be charged in all
      10 output tokens to be charged in all
      11 1 if the number of a channel's listeners can be trusted (not on a cluster)
      12 ms from the reservation to the sending
      13 1 if the call was answered
      14 the key's subjects, "p:<provider>|k:<key id>|g:<provider>/<group>|s:<service>"
      15 what the provider said is used: "requests|tokens|input|output", -1 where it said nothing
      16 the model, for what its estimates teach
      17 the estimate of its input tokens before that correction; 0 teaches nothing
      18 the input tokens that it really had
      19 the pulse of the service: 1 it answered, -1 it failed, 0 nobody knows
      20 ms that a failing service asked to be left alone; 0 if it named none
      21 why, where it failed
      22 the rules of circuits (see includes/circuit.lua)
      23 the version of the secret that was used
      then 5 a mark: health field, state, milliseconds (-1: until somebody acts), the longest that
           they may grow to (0: they do not), reason

A request that was sent later than its slot and the next is moved to the slot in which it was sent,
for that is when the provider counts it. Less than was reserved is given back to the slot that was
charged, while that slot counts; more is charged now. Output tokens that were held are let go and
what was produced is charged now. What becomes free goes to those who wait for it, in their order.

The provider's word wins upwards: use from outside that it tells is charged now. One that was the
probe of what comes back from a cooldown ends that, well or badly. A secret that was refused says
nothing of the key where a newer one is known.

Returns {1, now, ratio, opened} settled; the model's real input tokens for 1,000 estimated ones, 0
                        if the answer taught nothing; whether it opened a circuit: 1 the key's,
                        2 the service's, 3 both
        {0, now} it was settled before: nothing was changed
]]
--- @include "clock"
--- @include "ring"
--- @include "health"
--- @include "states"
--- @include "audit"
--- @include "marks"
--- @include "leases"
--- @include "circuit"
--- @include "candidates"
--- @include "queue"

local now = read_clock(ARGV[1])
local record = redis.call('GET', KEYS[1])
if record and string.sub(record, 1, 1) == 'S' then
  return {0, now}
end

if not record then
  -- Served while it waited: its turn is its record.
  local turn = redis.call('HGET', KEYS[3], ARGV[6])
  local slot, t, i, o = string.match(turn or '', '^G#[^#]*#(%d+)#(%d+)#(%d+)#(%-?%d+)#')
  if slot then
    record = string.format('R:0:%d:%d:%d:%d', slot, t, i, o)
    queue_forget({waiters = KEYS[3], deadlines = KEYS[4]}, ARGV[6])
  end
end

local geometry = ring_geometry(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]))
local ring, changes = ring_read(KEYS[5], geometry, now), {}
-- Without its record (Redis lost it) nothing is known to be charged: charge all of the use now.
local slot, requests, t, i, held = ring.head, 0, 0, 0, -1
if record then
  local s, rt, ri, ro = string.match(record, '^R:%d+:(%d+):(%d+):(%d+):(%-?%d+)$')
  slot, requests, t, i, held = tonumber(s), 1, tonumber(rt), tonumber(ri), tonumber(ro)
end

local late = math.ceil(tonumber(ARGV[12]) * geometry.slots / geometry.window)
local current = math.floor(now * geometry.slots / geometry.window)
if late > 1 and requests > 0 and ring_counts(ring, slot) then
  local sent = math.min(slot + late, math.max(slot, math.min(current, ring.head)))
  ring_add(ring, changes, slot, -requests, -t, -i, 0)
  ring_add(ring, changes, sent, requests, t, i, 0)
  slot = sent
end

local function split(delta)
  return math.min(delta, 0), math.max(delta, 0)
end
local back_r, more_r = split(tonumber(ARGV[7]) - requests)
local back_t, more_t = split(tonumber(ARGV[8]) - t)
local back_i, more_i = split(tonumber(ARGV[9]) - i)
local output = tonumber(ARGV[10])

if (back_r < 0 or back_t < 0 or back_i < 0) and ring_counts(ring, slot) then
  ring_add(ring, changes, slot, back_r, back_t, back_i, 0)
end
if more_r > 0 or more_t > 0 or more_i > 0 or output > 0 then
  if not ring_counts(ring, current) then
    current = ring.head
  end
  ring_add(ring, changes, current, more_r, more_t, more_i, output)
end
if held >= 0 and redis.call('ZREM', KEYS[6], ARGV[6] .. ':' .. held) == 1 then
  ring.held = math.max(0, ring.held - held)
end
-- More than a rounding (Anthropic tells thousands) is use that we did not see.
local said = {string.match(ARGV[15], '^(%-?%d+)|(%-?%d+)|(%-?%d+)|(%-?%d+)$')}
local function unseen(n, ours, rounding)
  local theirs = tonumber(said[n])
  return theirs > ours + rounding and theirs - ours or 0
end
local out_r, out_t = unseen(1, ring.r, 0), unseen(2, ring.t, 1000)
local out_i, out_o = unseen(3, ring.i, 1000), unseen(4, ring.o + ring.held, 1000)
if out_r + out_t + out_i + out_o > 0 and ring_counts(ring, current) then
  ring_add(ring, changes, current, out_r, out_t, out_i, out_o)
end

if ring.day_end > now then
  -- What was reserved before the day began is not given back to it.
  local today = ring_slot_start(geometry, slot) >= ring.day_end - 86400000
  ring.day_r = math.max(0, ring.day_r + (today and back_r or 0) + more_r)
  ring.day_t = math.max(0, ring.day_t + (today and back_t or 0) + more_t)
end
ring_write(ring, changes, now)
redis.call('SET', KEYS[1], 'S' .. string.sub(record or 'R:0:0:0:0:-1', 2), 'PX', ARGV[5])

local provider, key, group, service = string.match(ARGV[14], '^([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
local fields = {provider, key, group, 'c:' .. key, 'c:' .. service}
local found = redis.call('HMGET', KEYS[2], unpack(fields))
local pulse, opened = tonumber(ARGV[19]), 0

-- The end says something: of a probe, of a circuit, or by its marks.
local function take_in()
  local streams = {[key] = KEYS[10], [group] = KEYS[11], [provider] = KEYS[12]}
  local request = string.match(ARGV[6], '^(.*)%.%d+$') or ARGV[6]
  local function log_of(stream)
    return {stream = stream, who = 'request', request = request}
  end
  local marked = {}
  for n = 24, #ARGV, 5 do
    marked[ARGV[n]] = true
  end
  for n = 1, 3 do
    if found[n] then
      health_probed(KEYS[2], fields[n], found[n], ARGV[6], ARGV[13] == '1', marked[fields[n]],
        geometry.window / 2, now, log_of(streams[fields[n]]))
    end
  end
  for n = 4, 5 do
    if found[n] or pulse == -1 then
      local log = log_of(n == 4 and KEYS[10] or KEYS[12])
      if circuit_feel(KEYS[2], fields[n], found[n], pulse, ARGV[6], key, n == 4,
        tonumber(ARGV[20]), circuit_rules(ARGV[22]), ARGV[21], now, log) then
        opened = opened + n - 3
      end
    end
  end
  for n = 24, #ARGV, 5 do
    local field, state = ARGV[n], ARGV[n + 1]
    if state ~= 'invalid' or field ~= key
      or (tonumber(redis.call('HGET', KEYS[9], 'version:' .. key)) or 0) <= tonumber(ARGV[23]) then
      health_mark(KEYS[2], field, state, tonumber(ARGV[n + 2]), tonumber(ARGV[n + 3]), ARGV[n + 4],
        now, log_of(streams[field]))
    end
  end
end
if pulse == -1 or #ARGV > 23 or found[1] or found[2] or found[3] or found[4] or found[5] then
  take_in()
end
if ring.queued == 1 then
  local pool = {
    health = KEYS[2], waiters = KEYS[3], deadlines = KEYS[4],
    life = 2 * tonumber(ARGV[5]), heard = ARGV[11] == '1',
  }
  queue_drain(pool, KEYS[7], KEYS[5], KEYS[6], geometry, now)
end

-- An average that follows slowly and goes neither below a half nor above three times.
local estimated, real = tonumber(ARGV[17]), tonumber(ARGV[18])
if estimated == 0 then
  return {1, now, 0, opened}
end
local seen = math.min(3000, math.max(500, math.floor(1000 * real / estimated)))
local known = tonumber(redis.call('HGET', KEYS[8], ARGV[16])) or 1000
local ratio = math.floor(known + (seen - known) / 16 + 0.5)
if ratio ~= known then
  redis.call('HSET', KEYS[8], ARGV[16], ratio)
end
return {1, now, ratio, opened}
