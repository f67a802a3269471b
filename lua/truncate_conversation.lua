--[[
Forget all but the last messages of a conversation; its metadata and system prompt stay.

KEYS  1  the conversation's metadata
      2  its messages
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  how many of the last messages to keep; where that would cut a turn in two, one less stays

Returns how many were removed; -1 for no such conversation
]]
--- @include "clock"
--- @include "conversation"

local now = read_clock(ARGV[1])
local conversation = conversation_read(KEYS[1], KEYS[2])
if not conversation then
  return -1
end

local removed = math.max(conversation.length - tonumber(ARGV[2]), 0)
local first = removed > 0 and redis.call('LINDEX', KEYS[2], removed)
-- Every stored message begins with its role, so that no script has to parse it.
if first and string.find(first, '{"role":"assistant"', 1, true) == 1 then
  removed = removed + 1
end
if removed > 0 then
  redis.call('LTRIM', KEYS[2], removed, -1)
  redis.call('HSET', KEYS[1], 'message_count', conversation.length - removed, 'updated_ms', now)
end
return removed
