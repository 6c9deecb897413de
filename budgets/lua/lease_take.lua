-- Take a slice of a budget, as one hold.
-- ARGV: 2 slice id, 3 the most, 4 the least that is of use, 5 the most that goes unreported, 6 the
-- share of what is left (%), 7 the share of the limit below which nothing is given (%), 8 lease (ms),
-- 9 stats period, 10 budget, 11 rule, 12 period id, 13 its start and 14 its end (ms).
local id, budget, rule, period = ARGV[2], ARGV[10], ARGV[11], ARGV[12]
local now = now_ms()
read_limits({rule})
local pause = pause_left_ms(now)
if pause then return {'paused', int(pause)} end
if now < tonumber(ARGV[13]) or now >= tonumber(ARGV[14]) then return {'clock', int(now)} end
local state = read_state(budget, rule, period)
if not state then return {'unpublished', rule} end

local standing = read_hold(id)
local amount = 0
if standing then
  if standing.state == 'open' then amount = tonumber(standing.shares[1][4]) end
else
  local left = state.limit - state.spent - state.held
  if left > 0 and left * 100 >= state.limit * tonumber(ARGV[7])
    and now >= recalled_ms(budget, period) + RECALL_MS then
    amount = math.min(tonumber(ARGV[3]), math.floor(left * tonumber(ARGV[6]) / 100))
  end
  if amount < tonumber(ARGV[4]) then amount = 0 end
  if amount > 0 then
    take({state = state, delta = amount}, id, now + EXPECTED_MS, true, now)
    redis.call('HSET', P .. 'hold:' .. id, 'state', 'open', 'amount', int(amount), 'time', int(now),
      'expected_end', int(now + EXPECTED_MS), 'shares',
      encode_shares({{budget, rule, period, int(amount)}}), 'facts', slice_body(id),
      'decision_id', '', 'stats_period', ARGV[9], 'lease', int(math.min(amount, tonumber(ARGV[5]))))
    redis.call('ZADD', P .. 'leases', int(now + tonumber(ARGV[8])), id)
  end
end
return {'taken', reply_slice(id, now, amount, state, budget, period)}
