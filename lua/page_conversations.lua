--[[
Read one page of a list of conversations, the newest first.

KEYS  1  the list
ARGV  1  how many to leave out
      2  how many to return

Returns {conversation id, score ...}; the score is when it expires, ms
]]
local first = tonumber(ARGV[1])
return redis.call('ZREVRANGE', KEYS[1], first, first + tonumber(ARGV[2]) - 1, 'WITHSCORES')
