-- Why a key, a group or a provider is passed over: a hash whose fields are "k:<key id>",
-- "g:<provider>/<group>" and "p:<provider>", each "until_ms|state|reason"; -1 lasts until somebody
-- acts. The circuits (circuit.lua) and "#changes" (lifecycle.lua) lie in the same hash and have the
-- same form. What had an end comes back in two steps:
--   "<until>|probing|<reservation id>"   one request tries it; the others pass it over until then
--   "<until>|ramping|<since ms>"         until then only a growing share of its limits is used
-- A state may carry how many cooldowns followed each other without an answer: "throttled:3".

local PROBE_MS = 30000
local MARK = '^(%-?%d+)|(%a+):?(%d*)|(.*)$'

local function health_read(value)
  local till, state, times, reason = string.match(value, MARK)
  return tonumber(till), state, reason, tonumber(times) or 0
end

local function health_write(key, field, till, state, times, reason)
  local counted = times > 0 and state .. ':' .. times or state
  redis.call('HSET', key, field, string.format('%d|%s|%s', till, counted, reason))
end

-- Until when it is passed over: 0 if it is not, -1 until somebody acts.
local function health_until(value, now)
  if not value then
    return 0
  end
  local till, state = health_read(value)
  if state ~= 'ramping' and state ~= 'counting' and (till == -1 or till > now) then
    return till
  end
  return 0
end

-- What had an end that is over: the next request is its probe.
local function health_needs_probe(value, now)
  if not value then
    return false
  end
  local till, state = health_read(value)
  return till ~= -1 and till <= now and state ~= 'ramping' and state ~= 'counting'
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

-- The state in the words of the table of states.
local function health_state(value, now)
  if not value then
    return 'available'
  end
  local till, state = health_read(value)
  if state == 'ramping' then
    return till > now and 'recovering' or 'available'
  elseif till ~= -1 and till <= now or state == 'probing' then
    return 'recovering'
  end
  return state
end
