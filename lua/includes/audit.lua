-- What changed whose state: a stream for each key, group and service, of some 500 entries at most,
-- that is kept for 90 days after its last. Written only when a state really changes.

local AUDIT_LENGTH = 500
local AUDIT_MS = 90 * 86400000

-- log: {stream, who, request}; nil where nobody keeps a log.
local function audit(log, field, from, to, till, why, now)
  if not log or not log.stream then
    return
  end
  redis.call('XADD', log.stream, 'MAXLEN', '~', AUDIT_LENGTH, '*', 'at', now, 'who', log.who,
    'subject', field, 'from', from, 'to', to, 'until', till, 'why', why, 'request', log.request)
  redis.call('PEXPIRE', log.stream, AUDIT_MS)
end
