-- What a group has used, for people: eleven values, appended to `answer`. The mark is the longest of
-- the key's, its group's and its provider's; the circuits are the key's and its service's.
-- subjects: {provider, key, group, service} as fields of health.lua.
local function use_tell(answer, ring, leases_key, health_key, subjects, now)
  local in_flight, lost = leases_read(leases_key, now)
  local marks = redis.call('HMGET', health_key, subjects[2], subjects[3], subjects[1],
    'c:' .. subjects[2], 'c:' .. subjects[4])
  local mark, latest = '', 0
  for n = 1, 3 do
    local value = marks[n]
    local till = health_until(value, now)
    if latest ~= -1 and (till == -1 or till > latest) then
      mark, latest = value, till
    elseif mark == '' and value and health_state(value, now) ~= 'available' then
      mark = value
    end
  end
  local today = ring.day_end > now
  local held = in_flight == 0 and 0 or math.max(0, ring.held - lost)
  for _, value in ipairs({
    ring.r, ring.t, ring.i, ring.o, held, in_flight,
    today and ring.day_r or 0, today and ring.day_t or 0, mark, marks[4] or '', marks[5] or '',
  }) do
    answer[#answer + 1] = value
  end
end
