-- Make a policy's limits current. A digest that is current already changes nothing.
-- Any other is taken only while the revision is the one that its sender knows; the reply is then
-- `outrun` with the revision, for a call that arrives late must not bring old limits back.
-- ARGV: 2 digest, 3 the revision that must be current, then for each rule: rule, limit, thresholds,
-- carry.
local key = P .. 'policy'
local current = redis.call('HMGET', key, 'format', 'digest', 'revision')
if current[1] and current[1] ~= FORMAT then
  return redis.error_reply('FORMAT of the ledger is ' .. current[1] .. ', not ' .. FORMAT)
end
if current[2] == ARGV[2] then return tonumber(current[3]) end
local revision = tonumber(current[3] or 0)
if tonumber(ARGV[3]) ~= revision then return { 'outrun', revision } end
redis.call('HSET', key, 'format', FORMAT, 'digest', ARGV[2])
for i = 4, #ARGV, 4 do
  local rule, limit, thresholds, carry = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local old = redis.call('HGET', key, 'limit:' .. rule)
  -- Only a raise re-arms the thresholds: a limit that falls must not announce itself again.
  if not old or tonumber(limit) > tonumber(old) then
    redis.call('HINCRBY', key, 'epoch:' .. rule, '1')
  end
  redis.call('HSET', key, 'limit:' .. rule, limit, 'thresholds:' .. rule, thresholds,
    'carry:' .. rule, carry)
end
return redis.call('HINCRBY', key, 'revision', '1')
