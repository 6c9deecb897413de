-- Make the hold of a request that a worker has admitted from its slices: its shares move out of
-- them, so that no counter changes by it. Nothing refuses it: it has been sent.
-- ARGV: 2 hold id, 3 amount, 4 lease (ms), 5 expected end (ms from now), 6 facts, 7 decision id,
-- 8 decision, 9 the decision's TTL (s), 10 stats period, 11 when it was admitted (ms), then for each
-- budget: budget, rule, period id, amount, slice id or '' (a budget that only counts).
local hold_id = ARGV[2]
local now = now_ms()
local repeated = read_hold(hold_id) ~= nil
local rules = {}
for i = 13, #ARGV, 5 do rules[#rules + 1] = ARGV[i] end
read_limits(rules)

-- Move up to `amount` out of a slice: out of what it holds, or, where its lease has ended, out of
-- what it was charged for such as this. Returns what it did not have.
local function move(id, amount, state)
  local slice = read_hold(id)
  if not slice or not slice.lease or (slice.state ~= 'open' and slice.state ~= 'unreconciled') then
    return amount
  end
  local share = slice.shares[1]
  local key = counter_key(share[1], share[3])
  if slice.state == 'open' then
    local moved = math.min(amount, tonumber(share[4]))
    share[4] = int(tonumber(share[4]) - moved)
    redis.call('HINCRBY', key, 'held', int(-moved))
    redis.call('HSET', P .. 'hold:' .. id, 'amount', share[4], 'shares', encode_shares(slice.shares))
    state.held = state.held - moved
    return amount - moved
  end
  local moved = math.min(amount, tonumber(share[5] or 0))
  if moved <= 0 then return amount end
  share[5] = int(tonumber(share[5]) - moved)
  redis.call('HINCRBY', key, 'spent', int(-moved))
  redis.call('HINCRBY', key, 'unreconciled', int(-moved))
  state.spent = state.spent - moved
  local charges = encode_shares({{share[1], share[3], int(-moved)}})
  local line = {'kind', 'corrected', 'hold', id, 'time', int(now), 'cost', share[5],
    'held', int(slice.amount), 'charges', charges, 'body', slice_body(id),
    'unreconciled', charges}
  if state.closed then
    line[#line + 1] = 'addendum'
    line[#line + 1] = '1'
  end
  local entry = redis.call('XADD', P .. 'entries', '*', unpack(line))
  redis.call('HSET', P .. 'hold:' .. id, 'charged', share[5], 'shares', encode_shares(slice.shares))
  if state.closed then state.amended = {int(-moved), id, entry} end
  return amount - moved
end

local states, recalled, shares, ended, unbacked = {}, {}, {}, {}, 0
local expected_end = now + tonumber(ARGV[5])
for i = 12, #ARGV, 5 do
  local budget, rule, period, amount = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local known = read_state(budget, rule, period)
  if not repeated then
    local counter = redis.call('HMGET', counter_key(budget, period), 'rule', 'closed')
    -- Where a failover lost the limits, the hold stands all the same.
    local state = known or {budget = budget, rule = rule, period = period, registered = counter[1],
      closed = counter[2], held = 0, spent = 0, holds = 0}
    if ARGV[i + 4] ~= '' then unbacked = math.max(unbacked, move(ARGV[i + 4], amount, state)) end
    take({state = state, delta = amount}, hold_id, expected_end, true, now)
    if state.amended then amend(budget, period, state.amended[1], state.amended[2],
      state.amended[3], now) end
    shares[#shares + 1] = {budget, rule, period, int(amount)}
  end
  -- Also where the answer to the first word of it was lost.
  if ARGV[i + 4] ~= ''
    and redis.call('HGET', P .. 'hold:' .. ARGV[i + 4], 'state') ~= 'open' then
    ended[#ended + 1] = ARGV[i + 4]
  end
  states[#states + 1] = known and reply_state(known) or ''
  recalled[#recalled + 1] = int(recalled_ms(budget, period))
end
if not repeated then
  redis.call('HSET', P .. 'hold:' .. hold_id, 'state', 'open', 'amount', ARGV[3],
    'time', int(math.min(now, tonumber(ARGV[11]))), 'expected_end', int(expected_end),
    'shares', encode_shares(shares), 'facts', ARGV[6], 'decision_id', ARGV[7],
    'stats_period', ARGV[10])
  redis.call('ZADD', P .. 'leases', int(now + tonumber(ARGV[4])), hold_id)
  redis.call('SET', P .. 'decision:' .. ARGV[7], ARGV[8], 'EX', ARGV[9])
end
return {'adopted', int(now), repeated and '1' or '0', int(unbacked), ended, states, recalled}
