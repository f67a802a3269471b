-- A conversation is a hash of metadata and a list of messages, which live and expire together.
-- The hash: created_ms, updated_ms, message_count, total_tokens; where known user_id; and, as JSON,
-- last_model, system_prompt, and "m:<name>" for each of the caller's own metadata.

-- Half a conversation (the other half was evicted or deleted by hand) counts as none.
-- Returns nil, or {length, tokens, user}.
local function conversation_read(meta_key, messages_key)
  local field = redis.call('HMGET', meta_key, 'created_ms', 'message_count', 'total_tokens',
    'user_id')
  local length = redis.call('LLEN', messages_key)
  if not field[1] or (length == 0 and field[2] ~= '0') then
    return nil
  end
  local tokens = string.match(field[3] or '', '^%d+$')
  return {length = length, tokens = tonumber(tokens), user = field[4] or ''}
end

local function conversation_is_of_another(conversation, user)
  return conversation and user ~= '' and conversation.user ~= '' and conversation.user ~= user
end

-- Removes what half a conversation may have left, and starts afresh.
local function conversation_begin(meta_key, messages_key, now)
  redis.call('UNLINK', meta_key, messages_key)
  redis.call('HSET', meta_key, 'created_ms', now, 'message_count', 0, 'total_tokens', 0)
end

-- Sets the owner where there is one, and the pairs of field and value from ARGV[first] on.
local function conversation_describe(meta_key, now, user, first)
  redis.call('HSET', meta_key, 'updated_ms', now)
  if user ~= '' then
    redis.call('HSET', meta_key, 'user_id', user)
  end
  for n = first, #ARGV, 2 do
    redis.call('HSET', meta_key, ARGV[n], ARGV[n + 1])
  end
end
