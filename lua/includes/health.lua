-- Why a key, a group or a provider is passed over: a hash whose fields are "k:<key id>",
-- "g:<provider>/<group>" and "p:<provider>", each "until_ms|state|reason"; -1 lasts until somebody
-- acts. After a cooldown ("throttled") the field tells how the subject comes back:
--   "<until>|probing|<reservation id>"   one request tries it; the others pass it over until then
--   "<until>|ramping|<since ms>"         until then only a growing share of its limits is used

local PROBE_MS = 30000

local function health_read(value)
  local till, state, reason = string.match(value, '^(%-?%d+)|([^|]*)|(.*)$')
  return tonumber(till), state, reason
end

-- Until when it is passed over: 0 if it is not, -1 until somebody acts.
local function health_until(value, now)
  if not value then
    return 0
  end
  local till, state = health_read(value)
  if state ~= 'ramping' and (till == -1 or till > now) then
    return till
  end
  return 0
end

-- A cooldown that is over: the next request is its probe.
local function health_needs_probe(value, now)
  if not value then
    return false
  end
  local till, state = health_read(value)
  return till ~= -1 and till <= now and (state == 'throttled' or state == 'probing')
end

-- The share of its limits that may be used; below 1 also since when and until when (ms).
local function health_share(value, now)
  if not value then
    return 1
  end
  local till, state, since = health_read(value)
  if state ~= 'ramping' or till <= now then
    return 1
  end
  since = tonumber(since)
  return math.max(0.1, (now - since) / (till - since)), since, till
end

-- A probe of one of these fields has ended: ramp up after a success, else as if it had not been.
local function health_probed(key, fields, id, success, ramp_ms, now)
  for n, value in ipairs(redis.call('HMGET', key, unpack(fields))) do
    local _, state, reason
    if value then
      _, state, reason = health_read(value)
    end
    if state == 'probing' and reason == id then
      redis.call('HSET', key, fields[n], success
        and string.format('%d|ramping|%d', now + ramp_ms, now)
        or now .. '|throttled|the probe failed')
    end
  end
end

-- The later end wins: a short cooldown never shortens a longer one.
local function health_mark(key, field, state, milliseconds, reason, now)
  local till = -1
  if milliseconds >= 0 then
    till = now + milliseconds
    local old = health_until(redis.call('HGET', key, field), now)
    if old == -1 or old >= till then
      return old
    end
  end
  redis.call('HSET', key, field, till .. '|' .. state .. '|' .. reason)
  return till
end
