--[[
Register, rotate, revoke, disable or enable a key, as far as the table of states (lua/states.py)
allows it, for all processes and in one step.

KEYS  1  health
      2  what was changed of keys at run time (see below)
      3  the key's log; not to touch
ARGV  1  now in ms, '' for the server's own clock (tests alone set it)
      2  'register', 'rotate', 'revoke', 'disable', 'enable', or 'touch': tell those who use this
         shard that keys of another one were changed
      3  the key's field, "k:<key id>"
      4  to register: what keys.json would say of it, as JSON; never its secret
      5  1 if the caller knows the key from elsewhere, such as its keys.json
      6  who does it
      7  why

The hash of KEYS[2] has "spec:<field>" for a key that was registered, "version:<field>" that counts
the rotations of its secret, and "revoked:<field>". Each change moves "#changes" in health, which
every reservation reads: so all processes learn of it without asking.

Returns {code, state before, state after, version of its secret}
  code: 1 done, 0 it was so already, -1 not allowed in its state, -2 unknown, -3 known already,
        -4 it was revoked
]]
--- @include "clock"
--- @include "health"
--- @include "states"
--- @include "audit"
--- @include "marks"

local now = read_clock(ARGV[1])
local what, field, spec, known = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local log = {stream = KEYS[3], who = ARGV[6], request = ''}
local why = what .. (ARGV[7] ~= '' and ': ' .. ARGV[7] or '')

local function tell_all()
  local value = redis.call('HGET', KEYS[1], '#changes')
  local last = value and select(4, health_read(value)) or 0
  health_write(KEYS[1], '#changes', 0, 'changes', math.max(now, last + 1), '')
end

if what == 'touch' then
  tell_all()
  return {1, '', '', 0}
end

local found = redis.call('HMGET', KEYS[2], 'spec:' .. field, 'version:' .. field,
  'revoked:' .. field)
local version = tonumber(found[2]) or 0
local before = health_state(redis.call('HGET', KEYS[1], field), now)
if found[3] then
  return {what == 'revoke' and 0 or -4, before, before, version}
elseif what == 'register' then
  if found[1] or known then
    return {-3, before, before, version}
  end
elseif not found[1] and not known then
  return {-2, before, before, version}
end

local after = before
if what == 'disable' or what == 'revoke' then
  after = 'disabled'
elseif what == 'enable' or what == 'register' or before == 'invalid' then
  after = 'available'
end
if not health_allows(before, after) then
  return {-1, before, before, version}
elseif before == after and (what == 'disable' or what == 'enable') then
  return {0, before, after, version}
end

if what == 'register' then
  redis.call('HSET', KEYS[2], 'spec:' .. field, spec)
elseif what == 'rotate' then
  version = version + 1
  redis.call('HSET', KEYS[2], 'version:' .. field, version)
elseif what == 'revoke' then
  redis.call('HSET', KEYS[2], 'revoked:' .. field, now)
  redis.call('HDEL', KEYS[2], 'spec:' .. field)
end
if what == 'disable' or what == 'revoke' then
  health_write(KEYS[1], field, -1, after, 0, why)
elseif after == 'available' then
  redis.call('HDEL', KEYS[1], field, 'c:' .. field)
end
audit(log, field, what == 'register' and 'unknown' or before, after, after == 'disabled' and -1 or 0,
  why, now)
tell_all()
return {1, before, after, version}
