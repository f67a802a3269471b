-- Why a key, a group or a provider is passed over: a hash whose fields are "k:<key id>",
-- "g:<provider>/<group>" and "p:<provider>", each "until_ms|state|reason"; -1 lasts until somebody
-- acts.

local function health_until(value, now)
  if not value then
    return 0
  end
  local till = tonumber(string.match(value, '^(%-?%d+)|'))
  if till == -1 or till > now then
    return till
  end
  return 0
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
