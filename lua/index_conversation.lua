--[[
Enter a conversation into the lists of conversations, and drop some that have expired.

KEYS  1  all conversations
      2  the user's conversations, or nothing
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  life of the conversation from now on, ms
      3  conversation id
      4  how many expired entries to drop at most from each list

Returns when the conversation expires, ms
]]
--- @include "clock"

local now = read_clock(ARGV[1])
local expires = now + tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  local expired = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[4])
  if #expired > 0 then
    redis.call('ZREM', key, unpack(expired))
  end
  redis.call('ZADD', key, expires, ARGV[3])
  -- Another process may let its conversations live longer; the list must outlive them too.
  redis.call('PEXPIRE', key, math.max(tonumber(ARGV[2]), redis.call('PTTL', key)))
end
return expires
