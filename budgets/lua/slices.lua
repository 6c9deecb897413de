-- Hand a worker its slices of the allowances for a time without Redis.
-- ARGV: 2 owner, 3 how long an owner counts as active (ms), then for each rule: rule, period id,
-- the period's end (ms), allowance, what the owner reckons with, 1 if the rule keeps one counter.
local owner = ARGV[2]
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', P .. 'slice_owners', '-inf', int(now - tonumber(ARGV[3])))
redis.call('ZADD', P .. 'slice_owners', int(now), owner)
local owners = redis.call('ZCARD', P .. 'slice_owners')
local rows = {}
for i = 4, #ARGV, 6 do
  local rule, period, allowance = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 3])
  local total_key, field = P .. 'allowance:' .. period, period .. '|' .. rule
  local total = tonumber(redis.call('HGET', total_key, rule) or 0)
  local mine = tonumber(redis.call('HGET', P .. 'slices:' .. owner, field) or 0)
  local target = math.floor(allowance / owners)
  if ARGV[i + 5] == '1' then
    local state = read_state(rule, rule, period)
    if state and state.spent >= state.limit then target = 0 end
  end
  local change = 0
  if target > mine then
    change = math.max(0, math.min(target - mine, allowance - total))
  else
    change = math.min(0, math.max(target, tonumber(ARGV[i + 4])) - mine)
  end
  if change ~= 0 then
    redis.call('HINCRBY', total_key, rule, int(change))
    redis.call('PEXPIREAT', total_key, int(tonumber(ARGV[i + 2]) + UNRECONCILED_TTL_S * 1000))
    redis.call('HINCRBY', P .. 'slices:' .. owner, field, int(change))
  end
  rows[#rows + 1] = {rule, period, int(mine + change), int(target)}
end
return rows
