--[[
Forget all but the last messages of a conversation; its metadata and system prompt stay.

KEYS  1  the conversation's metadata
      2  its messages
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  how many of the last messages to keep; where that would cut a turn in two, the whole turn
         goes, but for the last turn, which stays whole where at least 2 are to be kept

Returns how many were removed; -1 for no such conversation
]]
--- @include "clock"
--- @include "conversation"

local now = read_clock(ARGV[1])
local conversation = conversation_read(KEYS[1], KEYS[2])
if not conversation then
  return -1
end

-- Every stored message begins with its role, so that no script has to parse it.
local function goes_on(at)
  local message = redis.call('LINDEX', KEYS[2], at)
  return message and (string.find(message, '{"role":"assistant"', 1, true) == 1
    or string.find(message, '{"role":"tool"', 1, true) == 1)
end

local length, keep = conversation.length, tonumber(ARGV[2])
local cut = math.max(length - keep, 0)
local removed = cut
while removed > 0 and removed < length and goes_on(removed) do
  removed = removed + 1
end
if removed == length and keep > 1 then
  removed = cut
  while removed > 0 and goes_on(removed) do
    removed = removed - 1
  end
end
if removed > 0 then
  redis.call('LTRIM', KEYS[2], removed, -1)
  redis.call('HSET', KEYS[1], 'message_count', length - removed, 'updated_ms', now)
end
return removed
