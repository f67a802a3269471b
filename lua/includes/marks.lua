-- Changes of a field of health.lua, as far as the table of states (lua/states.py) allows them.

local function health_allows(from, to)
  return from == to or string.find(STATE_ALLOWED, ' ' .. from .. '>' .. to .. ' ', 1, true) ~= nil
end

-- A probe of a field has ended: ramp up after a success, else as if it had not been. A failure that
-- marks the field anew speaks for itself.
local function health_probed(key, field, value, id, success, marked, ramp_ms, now, log)
  local _, state, reason, times = health_read(value)
  if state ~= 'probing' or reason ~= id then
    return
  elseif success then
    health_write(key, field, now + ramp_ms, 'ramping', times, now)
    audit(log, field, 'throttled', 'recovering', now + ramp_ms, 'its probe was answered', now)
  else
    health_write(key, field, now, 'throttled', times, 'the probe failed')
    if not marked then
      audit(log, field, 'recovering', 'throttled', now, 'its probe failed', now)
    end
  end
end

-- Pass a field over, as far as the table of states allows it. The later end wins: a short cooldown
-- never shortens a longer one. `milliseconds` doubles with each cooldown that follows another one
-- without an answer between them, up to `longest`; 0 never grows. Returns until when it holds.
local function health_mark(key, field, state, milliseconds, longest, reason, now, log)
  local value = redis.call('HGET', key, field)
  local from, times = health_state(value, now), 0
  local old = health_until(value, now)
  if not health_allows(from, state) then
    return old
  end
  if value then
    local _, was
    _, was, _, times = health_read(value)
    if state == 'throttled' and from == 'recovering' then
      times = times + 1
    elseif from == 'available' then
      times = 0
    end
  end
  local till = -1
  if milliseconds >= 0 then
    if longest > 0 then
      milliseconds = math.min(longest, milliseconds * 2 ^ math.min(times, 20))
    end
    till = now + math.floor(milliseconds)
    if old == -1 or old >= till then
      return old
    end
  elseif old == -1 and from == state then
    return -1
  end
  health_write(key, field, till, state, times, reason)
  if from ~= state then
    audit(log, field, from, state, till, reason, now)
  end
  return till
end

-- End a mark, but for one of somebody who took the key out of use; or close a circuit. Returns
-- whether it is ended.
local function health_clear(key, field, why, now, log)
  local value = redis.call('HGET', key, field)
  if value and string.sub(field, 1, 2) == 'c:' then
    redis.call('HDEL', key, field)
    local _, state = health_read(value)
    if state ~= 'counting' then
      audit(log, field, state == 'open' and 'open' or 'half-open', 'closed', 0, why, now)
    end
    return true
  end
  local from = health_state(value, now)
  if from == 'disabled' then
    return false
  end
  if value then
    redis.call('HDEL', key, field)
    if from ~= 'available' then
      audit(log, field, from, 'available', 0, why, now)
    end
  end
  return true
end
