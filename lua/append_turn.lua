--[[
Append one answered turn, its messages side by side: what was asked, then the answer.

KEYS  1  the conversation's metadata
      2  its messages
      3  the mark that this turn was appended
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  life of the conversation from now on, ms
      3  life of the mark, ms: a call sent twice within it appends once
      4  user id, '' for none
      5  tokens to add to the conversation's total
      6  how many messages follow
      then each message, a JSON object
      then 2 each: field and value to set in the metadata

Returns {1, messages now}  appended
        {0, messages now}  this turn was appended before
        {-1, messages}     refused: the conversation is another user's
]]
--- @include "clock"
--- @include "conversation"

local now = read_clock(ARGV[1])
local user = ARGV[4]
local conversation = conversation_read(KEYS[1], KEYS[2])
local length = conversation and conversation.length or 0

if redis.call('EXISTS', KEYS[3]) == 1 then
  return {0, length}
end
if conversation_is_of_another(conversation, user) then
  return {-1, length}
end
if conversation and not conversation.tokens then
  return redis.error_reply('ERR total_tokens of the conversation is not a whole number')
end

local function stamped(message)
  return string.sub(message, 1, -2) .. string.format(',"ts":%.0f}', now)
end

if not conversation then
  conversation_begin(KEYS[1], KEYS[2], now)
  conversation = {tokens = 0}
end
local last = 6 + tonumber(ARGV[6])
for n = 7, last do
  length = redis.call('RPUSH', KEYS[2], stamped(ARGV[n]))
end
conversation_describe(KEYS[1], now, user, last + 1)
redis.call('HSET', KEYS[1], 'message_count', length,
  'total_tokens', string.format('%.0f', conversation.tokens + tonumber(ARGV[5])))
redis.call('PEXPIREAT', KEYS[1], now + tonumber(ARGV[2]))
redis.call('PEXPIREAT', KEYS[2], now + tonumber(ARGV[2]))
redis.call('SET', KEYS[3], '1', 'PX', ARGV[3])
return {1, length}
