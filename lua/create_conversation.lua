--[[
Create a conversation without messages, or describe one that is there.

KEYS  1  the conversation's metadata
      2  its messages
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  life of a new conversation, ms; that of an existing one stays as it is
      3  user id, '' for none
      then 2 each: field and value to set in the metadata

Returns 1   created
        0   it was there; the fields are set
        -1  refused: it is another user's
]]
--- @include "clock"
--- @include "conversation"

local now = read_clock(ARGV[1])
local user = ARGV[3]
local conversation = conversation_read(KEYS[1], KEYS[2])
if conversation_is_of_another(conversation, user) then
  return -1
end

if conversation then
  conversation_describe(KEYS[1], now, user, 4)
  return 0
end
conversation_begin(KEYS[1], KEYS[2], now)
conversation_describe(KEYS[1], now, user, 4)
redis.call('PEXPIREAT', KEYS[1], now + tonumber(ARGV[2]))
return 1
