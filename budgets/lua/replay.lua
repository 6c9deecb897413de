-- Write down a request that a worker admitted by its slices while Redis was away, once.
-- ARGV: 2 hold id, 3 state (settled, voided, unreconciled), 4 cost, 5 body, 6 amount held,
-- 7 time of the hold (ms), 8 decision id, 9 decision, 10 the decision's TTL (s), 11 stats period,
-- 12 owner of the slices, 13 number of budgets, 14 number of counters, then the budgets (budget,
-- rule, period id, share, charge, enforced (1 or 0)) and the counters (name, increment).

-- Move what was spent from the owner's slice to the spent part of the allowance. What went above the
-- slice is noted as handed out as well: the allowance is used up by so much more.
local function spend_slice(owner, rule, period, charge)
  local slices, field = P .. 'slices:' .. owner, period .. '|' .. rule
  local mine = tonumber(redis.call('HGET', slices, field) or 0)
  local moved = math.min(mine, charge)
  if moved > 0 then redis.call('HINCRBY', slices, field, int(-moved)) end
  local total_key = P .. 'allowance:' .. period
  if charge > moved and redis.call('HEXISTS', total_key, rule) == 1 then
    redis.call('HINCRBY', total_key, rule, int(charge - moved))
  end
end

local now = now_ms()
local state, cost = ARGV[3], tonumber(ARGV[4])
local shares, charge_of, enforced, counters = {}, {}, {}, {}
local at = 15
for i = 1, tonumber(ARGV[13]) do
  shares[i] = {ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]}
  charge_of[ARGV[at]] = tonumber(ARGV[at + 4])
  enforced[i] = ARGV[at + 5] == '1'
  at = at + 6
end
for _ = 1, tonumber(ARGV[14]) do
  counters[#counters + 1] = ARGV[at]
  counters[#counters + 1] = ARGV[at + 1]
  at = at + 2
end
local ending = {
  state = state, cost = cost, body = ARGV[5], counters = counters,
  charge = function(share) return charge_of[share[1]] or cost end,
}
local hold = read_hold(ARGV[2])
if hold then
  if state == 'unreconciled' and hold.state ~= 'open' then
    return {'already_settled', hold.charged, int(hold.amount), hold.overage, int(now), {}}
  end
else
  redis.call('HSET', P .. 'hold:' .. ARGV[2], 'state', 'offline', 'amount', ARGV[6],
    'time', ARGV[7], 'expected_end', ARGV[7], 'shares', encode_shares(shares),
    'decision_id', ARGV[8], 'stats_period', ARGV[11])
  redis.call('SET', P .. 'decision:' .. ARGV[8], ARGV[9], 'EX', ARGV[10])
  for i, share in ipairs(shares) do
    register({
      budget = share[1], rule = share[2], period = share[3],
      registered = redis.call('HEXISTS', counter_key(share[1], share[3]), 'rule') == 1,
    })
    if enforced[i] then spend_slice(ARGV[12], share[2], share[3], charge_of[share[1]] or cost) end
  end
end
if state == 'unreconciled' then
  hold = read_hold(ARGV[2])
  ending.kind, ending.ttl_s = state, UNRECONCILED_TTL_S
  ending.counters = {'unreconciled_count', '1', 'unreconciled_nano', int(cost)}
  local events = {}
  local _, _, overage = end_hold(hold, ending, now, events)
  add_event('unreconciled', now, '{"hold_id":' .. cjson.encode(hold.id)
    .. ',"decision_id":' .. cjson.encode(hold.decision_id)
    .. ',"charged_nano_usd":' .. int(cost) .. '}')
  return {'settled', int(cost), int(hold.amount), int(overage), int(now), events}
end
return resolve(ARGV[2], ending, now)
