-- What calls under way hold: a sorted set of "<reservation id>:<output tokens>" by the time (ms)
-- at which the lease of a client that died is reclaimed.

-- Returns how many are alive, and the output tokens of those that are not.
local function leases_read(key, now)
  local lost = 0
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do
    lost = lost + tonumber(string.match(member, ':(%d+)$'))
  end
  return redis.call('ZCOUNT', key, '(' .. now, '+inf'), lost
end

local function leases_add(key, id, output, till, now)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, till, id .. ':' .. output)
  redis.call('PEXPIRE', key, math.max(till - now, redis.call('PTTL', key)))
end
