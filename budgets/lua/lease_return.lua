-- End a slice: what is left of it goes back, and what it was charged when its lease ended.
-- ARGV: 2 slice id, 3 how long its id is remembered (s).
local id = ARGV[2]
local now = now_ms()
local slice = read_hold(id)
if slice and slice.state == 'unreconciled' and slice.lease then
  resolve(id, {
    state = 'settled', cost = 0, body = slice_body(id), counters = {},
    charge = function() return 0 end,
  }, now)
  return 1
end
if slice and slice.state ~= 'open' then return 0 end
if slice then
  local share = slice.shares[1]
  local budget, period = share[1], share[3]
  local key = counter_key(budget, period)
  redis.call('HINCRBY', key, 'held', int(-tonumber(share[4])))
  redis.call('HINCRBY', key, 'holds', '-1')
  redis.call('ZREM', ends_key(budget, period), id)
  redis.call('ZREM', P .. 'leases', id)
  if redis.call('HGET', key, 'closed') then amend(budget, period, 0, id, '', now) end
end
local key = P .. 'hold:' .. id
redis.call('HSET', key, 'state', 'voided', 'amount', '0', 'time', int(now), 'expected_end', int(now),
  'shares', '[]', 'decision_id', '', 'stats_period', '')
redis.call('HDEL', key, 'facts', 'lease')
redis.call('EXPIRE', key, ARGV[3])
return 1
