-- The ring of sub-buckets of one quota group: a hash with
--   m      "geometry|head|r|t|i|o|held|day end|day r|day t|queued|promised|
--          watched", where
--          geometry  "window_ms:slots:counted"
--          head      the newest slot's absolute number
--          r t i o   running sums over the counted slots: requests, tokens, input, output tokens
--          held      output tokens held by calls under way (they do not age)
--          day ...   when the day ends (ms), the requests and the tokens that it has seen
--          queued    1 while requests may wait for this group
--          promised  the newest slot that a waiting request was promised ahead of time
--          watched   the ms at which somebody looks after those who wait
--   s<n>   what one slot holds, "r:t:i:o", n = absolute number modulo `counted`
-- Reading advances a copy to the present; nothing is written before ring_write.

local RING_HEADER =
  '^([^|]*)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d+)|(%d)|(%d+)|(%d+)$'

local function ring_geometry(window_ms, slots, counted)
  return {
    window = window_ms, slots = slots, counted = counted,
    name = window_ms .. ':' .. slots .. ':' .. counted,
  }
end

-- The first millisecond that lies in a slot.
local function ring_slot_start(geometry, slot)
  return math.ceil(slot * geometry.window / geometry.slots)
end

local function ring_parse(value)
  local r, t, i, o = string.match(value, '^(%d+):(%d+):(%d+):(%d+)$')
  return tonumber(r), tonumber(t), tonumber(i), tonumber(o)
end

local function ring_field(geometry, slot)
  return 's' .. (slot % geometry.counted)
end

-- Subtract the slots that have left the counted range, never summing the rest again.
local function ring_age(ring, to)
  local g = ring.geometry
  local fields = {}
  for slot = ring.head - g.counted + 1, to - g.counted do
    fields[#fields + 1] = ring_field(g, slot)
  end
  local aged, is_aged = {}, {}
  for n, value in ipairs(redis.call('HMGET', ring.key, unpack(fields))) do
    if value then
      local r, t, i, o = ring_parse(value)
      ring.r, ring.t, ring.i, ring.o = ring.r - r, ring.t - t, ring.i - i, ring.o - o
      aged[#aged + 1] = fields[n]
      is_aged[fields[n]] = true
    end
  end
  ring.aged, ring.is_aged = aged, is_aged
end

-- Read a group and advance it to `now`. A clock that went backwards stays at the head.
local function ring_read(key, geometry, now)
  local slot = math.floor(now * geometry.slots / geometry.window)
  -- The newest slot comes along, as it is the one that most calls change.
  local newest = ring_field(geometry, slot)
  local found = redis.call('HMGET', key, 'm', newest)
  local header = found[1]
  if not header then
    return {
      key = key, geometry = geometry, head = slot, emptied = true,
      r = 0, t = 0, i = 0, o = 0, held = 0, day_end = 0, day_r = 0, day_t = 0,
      queued = 0, promised = 0, watched = 0,
    }
  end
  local name, head, r, t, i, o, held, day_end, day_r, day_t, queued, promised,
    watched = string.match(header, RING_HEADER)
  head = tonumber(head)
  local ring = {
    key = key, geometry = geometry, head = head, written = head,
    newest = newest, newest_held = found[2],
    r = tonumber(r), t = tonumber(t), i = tonumber(i), o = tonumber(o), held = tonumber(held),
    day_end = tonumber(day_end), day_r = tonumber(day_r), day_t = tonumber(day_t),
    queued = tonumber(queued), promised = tonumber(promised), watched = tonumber(watched),
  }
  if name ~= geometry.name then
    -- Written with another window or slot count: keep the sums, as if all of it were new.
    ring.head, ring.emptied, ring.carried = slot, true, true
  elseif slot - ring.head >= geometry.counted then
    ring.r, ring.t, ring.i, ring.o = 0, 0, 0, 0
    ring.head, ring.emptied = slot, true
  elseif slot > ring.head then
    ring_age(ring, slot)
    ring.head = slot
  end
  return ring
end

-- What the slots from..to hold in the advanced copy, as a list of {r, t, i, o} or false.
local function ring_slots(ring, from, to)
  local g = ring.geometry
  local found = {}
  if ring.emptied then
    for slot = from, to do
      found[#found + 1] = ring.carried and slot == ring.head and {ring.r, ring.t, ring.i, ring.o}
    end
    return found
  end
  local fields = {}
  for slot = from, to do
    fields[#fields + 1] = ring_field(g, slot)
  end
  local values = from == to and fields[1] == ring.newest and {ring.newest_held}
    or redis.call('HMGET', ring.key, unpack(fields))
  for n, value in ipairs(values) do
    found[n] = value and not (ring.aged and ring.is_aged[fields[n]]) and {ring_parse(value)}
  end
  return found
end

local function ring_counts(ring, slot)
  return slot <= ring.head and ring.head - slot < ring.geometry.counted
end

-- Add (or, with negative amounts, give back) in one slot; `changes` collects the new fields.
local function ring_add(ring, changes, slot, r, t, i, o)
  local field = ring_field(ring.geometry, slot)
  local sr, st, si, so
  if changes[field] then
    sr, st, si, so = ring_parse(changes[field])
  else
    local held = ring_slots(ring, slot, slot)[1]
    if held then
      sr, st, si, so = unpack(held)
    else
      sr, st, si, so = 0, 0, 0, 0
    end
  end
  r, t, i, o = math.max(r, -sr), math.max(t, -st), math.max(i, -si), math.max(o, -so)
  ring.r, ring.t, ring.i, ring.o = ring.r + r, ring.t + t, ring.i + i, ring.o + o
  changes[field] = string.format('%d:%d:%d:%d', sr + r, st + t, si + i, so + o)
end

local function ring_write(ring, changes, now)
  if ring.emptied then
    redis.call('DEL', ring.key)
    if ring.carried and not changes[ring_field(ring.geometry, ring.head)] then
      ring_add(ring, changes, ring.head, 0, 0, 0, 0)
    end
  elseif ring.aged and #ring.aged > 0 then
    redis.call('HDEL', ring.key, unpack(ring.aged))
  end
  local fields = {'m', string.format('%s|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d|%d',
    ring.geometry.name, ring.head, ring.r, ring.t, ring.i, ring.o, ring.held,
    ring.day_end, ring.day_r, ring.day_t, ring.queued, ring.promised, ring.watched)}
  for field, value in pairs(changes) do
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  redis.call('HSET', ring.key, unpack(fields))
  if ring.head == ring.written and not ring.new_day and not ring.emptied then
    return -- what was written in this slot before has set its end
  end
  local rest = math.max(2 * ring.geometry.window, ring.day_end - now)
  if ring.held > 0 and not ring.emptied then
    rest = math.max(rest, redis.call('PTTL', ring.key)) -- what is held outlives the window
  end
  redis.call('PEXPIRE', ring.key, rest)
end

-- Begin a new day where the old one has ended. `day_end` is the provider's next reset, as the
-- client's clock sees it; no day ends later than 25 hours from now, when the clocks are set back.
local function ring_roll_day(ring, day_end, now)
  if ring.day_end <= now then
    if day_end <= now or day_end > now + 90000000 then
      day_end = now + (day_end - now - 1) % 86400000 + 1
    end
    ring.day_end, ring.day_r, ring.day_t, ring.new_day = day_end, 0, 0, true
  end
end

-- When does ageing alone bring each sum down by what is missing? The first millisecond of it.
local function ring_opening(ring, r, t, i, o)
  local g = ring.geometry
  local first = ring.head - g.counted + 1
  for n, held in ipairs(ring_slots(ring, first, ring.head)) do
    if held then
      r, t, i, o = r - held[1], t - held[2], i - held[3], o - held[4]
      if r <= 0 and t <= 0 and i <= 0 and o <= 0 then
        return ring_slot_start(g, first + n - 1 + g.counted)
      end
    end
  end
  return -1
end

-- Requests in the newest `slots` slots, and the millisecond at which one more fits `limit`.
local function ring_burst(ring, slots, limit)
  local g = ring.geometry
  local first = math.max(ring.head - slots, ring.head - g.counted) + 1
  local sum, held_slots = 0, ring_slots(ring, first, ring.head)
  for _, held in ipairs(held_slots) do
    sum = sum + (held and held[1] or 0)
  end
  local missing, opens = sum + 1 - limit, 0
  for n, held in ipairs(held_slots) do
    if missing > 0 and held then
      missing = missing - held[1]
      opens = ring_slot_start(g, first + n - 1 + slots)
    end
  end
  return sum, opens
end
