--[[
Take conversations out of the lists of conversations.

KEYS  the lists
ARGV  2 each: conversation id, and the score it was seen with ('' for any): an entry that has got
      another score since is alive again, and stays

Returns how many entries were removed
]]
local removed = 0
for _, key in ipairs(KEYS) do
  for n = 1, #ARGV, 2 do
    local score = redis.call('ZSCORE', key, ARGV[n])
    if score and (ARGV[n + 1] == '' or tonumber(score) == tonumber(ARGV[n + 1])) then
      removed = removed + redis.call('ZREM', key, ARGV[n])
    end
  end
end
return removed
