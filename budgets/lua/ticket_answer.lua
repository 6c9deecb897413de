-- Approve or deny a ticket, once. ARGV: 2 id, 3 `approve` or `deny`, 4 the person's key and 5 user,
-- 6 reason, 7 terms (text), 8 1 if two persons must approve them, 9 uses ('' any), 10 amount,
-- 11 until (ms), 12 by, 13 detail of the audit line, 14 how long it is kept (ms).
local now = now_ms()
local key = P .. 'approval:' .. ARGV[2]
local fields = redis.call('HMGET', key, 'state', 'expires', 'key', 'user', 'first_key',
  'first_user', 'first_terms', 'valid_to')
local function is_same(one_key, one_user)
  return (ARGV[4] ~= '' and ARGV[4] == one_key) or (ARGV[5] ~= '' and ARGV[5] == one_user)
end
if not fields[1] then return 'unknown' end
if fields[1] ~= 'open' then return 'already_' .. fields[1] end
if tonumber(fields[2]) <= now then return 'expired' end
if is_same(fields[3], fields[4]) then return 'own_request' end
local function decide(state)
  redis.call('HSET', key, 'state', state, 'decided_key', ARGV[4], 'decided_user', ARGV[5],
    'decided', int(now), 'reason', ARGV[6])
  redis.call('ZREM', P .. 'approvals_open', ARGV[2])
  redis.call('ZREM', P .. 'approvals_open:' .. fields[3], ARGV[2])
  append_trail(ARGV[4], 'approval_' .. state, ARGV[13], now)
  return state
end
if ARGV[3] == 'deny' then return decide('denied') end

local till = tonumber(ARGV[11])
if till <= now or till > tonumber(fields[8]) then return 'over' end
if fields[5] then
  if is_same(fields[5], fields[6]) then return 'same_person' end
  if ARGV[7] ~= fields[7] then return 'terms_differ' end
elseif ARGV[8] == '1' then
  redis.call('HSET', key, 'first_key', ARGV[4], 'first_user', ARGV[5], 'first_terms', ARGV[7])
  append_trail(ARGV[4], 'approval_first', ARGV[13], now)
  return 'first'
end
redis.call('HSET', key, 'uses_max', ARGV[9], 'amount_max', ARGV[10], 'until', ARGV[11], 'by',
  ARGV[12], 'terms', ARGV[7])
if ARGV[12] ~= 'header' then
  redis.call('ZREMRANGEBYSCORE', P .. 'approvals_given', '-inf', int(now))
  redis.call('ZADD', P .. 'approvals_given', int(till), ARGV[2])
end
add_event('approved', now, '{"approval_id":' .. cjson.encode(ARGV[2]) .. '}')
return decide('approved')
