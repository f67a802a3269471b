--[[
Delete a conversation, also one that is damaged.

KEYS  1  the conversation's metadata
      2  its messages

Returns {keys removed, user id or ''}
]]
-- pcall: a key of a wrong type must not keep the conversation from being deleted.
local owner = redis.pcall('HGET', KEYS[1], 'user_id')
return {redis.call('UNLINK', KEYS[1], KEYS[2]), type(owner) == 'string' and owner or ''}
