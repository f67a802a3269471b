-- What a group has used, for people: nine values, appended to `answer`. The mark is that of the key,
-- else of its group, else of its provider; `subjects` are their fields, the provider's first.
local function use_tell(answer, ring, leases_key, health_key, subjects, now)
  local in_flight, lost = leases_read(leases_key, now)
  local marks = redis.call('HMGET', health_key, subjects[2], subjects[3], subjects[1])
  local mark = ''
  for n = 3, 1, -1 do
    local value = marks[n]
    if value and (health_until(value, now) ~= 0 or health_share(value, now) < 1) then
      mark = value
    end
  end
  local today = ring.day_end > now
  for _, value in ipairs({
    ring.r, ring.t, ring.i, ring.o, math.max(0, ring.held - lost), in_flight,
    today and ring.day_r or 0, today and ring.day_t or 0, mark,
  }) do
    answer[#answer + 1] = value
  end
end
