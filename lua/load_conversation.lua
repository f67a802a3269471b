--[[
Read a conversation's metadata and its last messages, as they are at one moment.

KEYS  1  the conversation's metadata
      2  its messages
ARGV  1  how many of the last messages; -1 for all, 0 for none

Returns {}                                             no such conversation
        {messages in all, {field, value ...}, {message ...}}  the messages as JSON, oldest first
]]
--- @include "conversation"

local conversation = conversation_read(KEYS[1], KEYS[2])
if not conversation then
  return {}
end
local last = tonumber(ARGV[1])
local messages = {}
if last ~= 0 then
  messages = redis.call('LRANGE', KEYS[2], last < 0 and 0 or -last, -1)
end
return {conversation.length, redis.call('HGETALL', KEYS[1]), messages}
