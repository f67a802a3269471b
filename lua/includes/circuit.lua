-- Circuit breakers of a key ("c:k:<key id>") and of a service, which is a provider at one address
-- ("c:s:<provider>"), beside the marks in the hash of health.lua:
--   "<last failure ms>|counting:<failures>|<the key that failed, or * for several>"   closed
--   "<until>|open:<times it opened>|<why>"       nothing is sent
--   "<until>|trying:<times>|<reservation id>"    half open: one request tries it, in all processes
-- No field is a closed circuit. An answer of any kind, a refusal too, closes it.

-- rules: "failures that open it|ms between two that count together|ms open|ms open at most"
local function circuit_rules(text)
  local failures, within, open, longest = string.match(text, '^(%d+)|(%d+)|(%d+)|(%d+)$')
  return {
    failures = tonumber(failures), within = tonumber(within),
    open = tonumber(open), longest = tonumber(longest),
  }
end

-- wait: ms that the service asked to be left alone, 0 if it named none.
local function circuit_open(health, field, times, wait, rules, why, now, log)
  local milliseconds = wait > 0 and wait
    or math.min(rules.longest, rules.open * 2 ^ math.min(times, 20))
  local till = now + math.floor(milliseconds)
  health_write(health, field, till, 'open', times + 1, why)
  audit(log, field, times > 0 and 'half-open' or 'closed', 'open', till, why, now)
end

-- One attempt has ended. pulse: 1 the service answered, -1 it failed, 0 nobody knows.
-- alone: whether failures of one key suffice; one that names its own wait is enough then.
-- Returns whether the circuit was opened.
local function circuit_feel(health, field, value, pulse, id, key, alone, wait, rules, why, now, log)
  local till, state, detail, count
  if value then
    till, state, detail, count = health_read(value)
  end
  local mine = state == 'trying' and detail == id
  if state == 'open' or state == 'trying' and not mine then
    return false -- what was sent before it opened tells nothing of now
  elseif pulse == 0 then
    if mine then
      health_write(health, field, now, 'open', count, 'the probe told nothing')
    end
    return false
  elseif pulse == 1 then
    if value then
      redis.call('HDEL', health, field)
      if mine then
        audit(log, field, 'half-open', 'closed', 0, 'its probe was answered', now)
      end
    end
    return false
  elseif mine then
    circuit_open(health, field, count, wait, rules, why, now, log)
    return true
  elseif rules.failures == 0 then
    return false
  end
  if not value or now - till > rules.within then
    count, detail = 0, key
  end
  count = count + 1
  if detail ~= key then
    detail = '*'
  end
  if (count >= rules.failures or wait > 0 and alone) and (alone or detail == '*') then
    circuit_open(health, field, 0, wait, rules, why, now, log)
    return true
  end
  health_write(health, field, now, 'counting', count, detail)
  return false
end
