-- Open a ticket for a breach, unless it has one that is still its answer.
-- ARGV: 2 id, 3 breach, 4 expires in (ms), 5 requested, 6 key, 7 user, 8 kind, 9 budgets (JSON),
-- 10 context (JSON), 11 task type, 12 proposal, 13 valid to (ms), 14 how long it is kept (ms),
-- 15 the most open tickets, 16 the most of one key, 17 detail of the audit line.
local now = now_ms()
local breach = P .. 'approval_of:' .. ARGV[3]
local known = redis.call('GET', breach)
if known then
  local key = P .. 'approval:' .. known
  local fields = redis.call('HMGET', key, 'state', 'expires', 'largest', 'valid_to')
  local state = fields[1] or ''
  local stands = false
  if state == 'open' then
    stands = tonumber(fields[2]) > now
  elseif state == 'denied' then
    stands = tonumber(fields[4]) > now
  elseif state == 'approved' then
    stands = has_left(read_approval(known), tonumber(ARGV[5]), now)
  end
  if stands then
    redis.call('HINCRBY', key, 'requests', '1')
    if state == 'open' and tonumber(ARGV[5]) > tonumber(fields[3]) then
      redis.call('HSET', key, 'largest', ARGV[5])
    end
    return {known, state, '0'}
  end
end
redis.call('ZREMRANGEBYSCORE', P .. 'approvals_open', '-inf', int(now))
local own = P .. 'approvals_open:' .. ARGV[6]
redis.call('ZREMRANGEBYSCORE', own, '-inf', int(now))
if redis.call('ZCARD', P .. 'approvals_open') >= tonumber(ARGV[15])
    or redis.call('ZCARD', own) >= tonumber(ARGV[16]) then
  return {'', 'full', '0'}
end
local key, expires = P .. 'approval:' .. ARGV[2], now + tonumber(ARGV[4])
redis.call('HSET', key, 'state', 'open', 'breach', ARGV[3], 'requested', ARGV[5], 'largest', ARGV[5], 'requests', '1',
  'key', ARGV[6], 'user', ARGV[7], 'kind', ARGV[8], 'budgets', ARGV[9], 'context', ARGV[10],
  'task_type', ARGV[11], 'proposal', ARGV[12], 'opened', int(now), 'expires', int(expires),
  'valid_to', ARGV[13])
local kept = math.max(expires, tonumber(ARGV[13])) + tonumber(ARGV[14])
redis.call('PEXPIREAT', key, int(kept))
redis.call('SET', breach, ARGV[2])
redis.call('PEXPIREAT', breach, int(kept))
redis.call('ZADD', P .. 'approvals', int(now), ARGV[2])
redis.call('ZADD', P .. 'approvals_open', int(expires), ARGV[2])
redis.call('ZADD', own, int(expires), ARGV[2])
-- The list forgets the oldest tickets once they are gone.
for _, old in ipairs(redis.call('ZRANGE', P .. 'approvals', '0', '9')) do
  if redis.call('EXISTS', P .. 'approval:' .. old) == 0 then
    redis.call('ZREM', P .. 'approvals', old)
  end
end
append_trail(ARGV[6] ~= '' and ARGV[6] or 'unnamed', 'approval_asked', ARGV[17], now)
-- Whoever can answer has to hear of it: the alert says what the audit trail says.
raise('approval_asked', now, ARGV[17])
return {ARGV[2], 'open', '1'}
