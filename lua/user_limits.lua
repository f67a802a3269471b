--[[
Take one request out of a user's bucket and out of that of all users together: both or neither.

A bucket's debt is what it lacks of being full, in parts of a request: a request adds as many parts
as the minute has ms, and every ms pays `rpm` parts back. So all numbers are whole, for any limit.

KEYS  1  limits of users who have one of their own: user id -> "<rpm>:<burst>"
      2  the bucket of all users: "<debt>:<at ms>"
      3  the user's bucket; left out for a request that names no user
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  the minute in ms
      3  rpm, 4 burst  of all users; 0 for no limit
      5  rpm, 6 burst  of a user who has no limit of their own; 0 for no limit
      7  user id, '' for none

Returns {0, 0} taken, {1, ms} the user's bucket or {2, ms} that of all users was empty, nothing is
taken, and in so many ms both have a request again
]]
--- @include "clock"

local now = read_clock(ARGV[1])
local minute = tonumber(ARGV[2])

local function whole(number)
  return string.format('%.0f', number)
end

-- The bucket after this request, and how long (ms) it must wait for it.
local function bucket_after(key, rpm, burst)
  local stored, debt, at = redis.call('GET', key), 0, now
  if stored then
    debt, at = string.match(stored, '^(%d+):(%d+)$')
    -- More than full debt is there after the limit was lowered.
    debt, at = math.min(tonumber(debt), burst * minute), tonumber(at)
    if now > at then
      debt, at = math.max(0, debt - (now - at) * rpm), now
    end
  end
  debt = debt + minute
  local excess = debt - burst * minute
  local wait = excess > 0 and at - now + math.ceil(excess / rpm) or 0
  return {key = key, rpm = rpm, debt = debt, at = at}, wait
end

-- A bucket that is full is as good as none. It stays a minute longer, for a clock that goes back.
local function bucket_write(bucket)
  local life = math.ceil(bucket.debt / bucket.rpm) + minute
  local value = whole(bucket.debt) .. ':' .. whole(bucket.at)
  redis.call('SET', bucket.key, value, 'PX', whole(life))
end

local buckets, who, wait = {}, 0, 0
local function ask(number, key, rpm, burst)
  if rpm > 0 then
    local bucket, needed = bucket_after(key, rpm, burst)
    buckets[#buckets + 1] = bucket
    if needed > wait then
      who, wait = number, needed
    end
  end
end

if KEYS[3] then
  local own = redis.call('HGET', KEYS[1], ARGV[7])
  local rpm, burst = string.match(own or '', '^(%d+):(%d+)$')
  ask(1, KEYS[3], tonumber(rpm or ARGV[5]), tonumber(burst or ARGV[6]))
end
ask(2, KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
if who == 0 then
  for _, bucket in ipairs(buckets) do
    bucket_write(bucket)
  end
end
return {who, wait}
