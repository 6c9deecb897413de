-- Charge a hold with what its request really cost, once.
-- ARGV: 2 hold id, 3 cost, 4 body, 5 number of charges, 6 number of counters, 7 number of output
-- samples, then the charges (budget, amount), the counters (name, increment), the recovery (number
-- of budgets, or '' for none and nothing more of it; amount, time of the hold (ms), decision id,
-- stats period, then for each budget: budget, rule, period id, amount), the output samples (key,
-- output tokens, seed or '', rate) and the input samples (key, counted, input and extra tokens, the
-- policy's likely factor and bound).
local now = now_ms()
local charge_of, counters = {}, {}
local at = 8
for _ = 1, tonumber(ARGV[5]) do
  charge_of[ARGV[at]] = tonumber(ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[6]) do
  counters[#counters + 1] = ARGV[at]
  counters[#counters + 1] = ARGV[at + 1]
  at = at + 2
end
local recovery = tonumber(ARGV[at])
local lost
at = at + 1
if recovery then
  lost = {id = ARGV[2], state = 'lost', amount = tonumber(ARGV[at]), time = tonumber(ARGV[at + 1]),
    decision_id = ARGV[at + 2], stats_period = ARGV[at + 3], shares = {}}
  at = at + 4
  for i = 1, recovery do
    lost.shares[i] = {ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]}
    at = at + 4
  end
end
local cost = tonumber(ARGV[3])
local ending = {
  state = 'settled', cost = cost, body = ARGV[4], counters = counters,
  charge = function(share) return charge_of[share[1]] or cost end,
}
local reply = resolve(ARGV[2], ending, now)
if reply[1] == 'unknown_hold' and lost then reply = recover(lost, ending, now) or reply end
if reply[1] ~= 'settled' and reply[1] ~= 'corrected' and reply[1] ~= 'recovered' then
  return reply
end

-- Learned output lengths; `budgets/learning.py` is the same arithmetic, with its reasons.
local learned = P .. 'learned'
local inputs_at = at + 4 * tonumber(ARGV[7])
for i = at, inputs_at - 1, 4 do
  local key, tokens = ARGV[i], tonumber(ARGV[i + 1])
  local seed, rate = tonumber(ARGV[i + 2]) or tokens, tonumber(ARGV[i + 3])
  local old = redis.call('HMGET', learned,
    'n:' .. key, 'mean:' .. key, 'deviation:' .. key, 'quantile95:' .. key)
  local n = tonumber(old[1] or 0) + 1
  local mean, deviation, quantile = seed + rate * (tokens - seed), math.abs(tokens - seed), tokens
  if n > 1 then
    mean, deviation, quantile = tonumber(old[2]), tonumber(old[3]), tonumber(old[4])
    deviation = deviation + math.max(0.1, 1 / (n - 1)) * (math.abs(tokens - mean) - deviation)
    mean = mean + rate * (tokens - mean)
    local step = deviation * math.max(0.1, 1 / math.sqrt(n))
    if tokens > quantile then
      quantile = quantile + step * 0.95
    elseif tokens < quantile then
      quantile = quantile - step * 0.05
    end
  end
  redis.call('HSET', learned, 'n:' .. key, int(n), 'mean:' .. key, string.format('%.17g', mean),
    'deviation:' .. key, string.format('%.17g', deviation),
    'quantile95:' .. key, string.format('%.17g', quantile))
end

-- Learned input margins; `budgets/margins.py` is the same arithmetic, with its reasons.
if inputs_at > #ARGV then return reply end
local fields, written = {}, {}
for i = inputs_at, #ARGV, 6 do fields[#fields + 1] = 'input:' .. ARGV[i] end
local known = redis.call('HMGET', learned, unpack(fields))
for k, field in ipairs(fields) do
  local i = inputs_at + 6 * (k - 1)
  local counted, input, extra = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local likely, policy_bound = tonumber(ARGV[i + 4]), tonumber(ARGV[i + 5])
  local ceiling = policy_bound + 1.5
  local n, counted_mean, input_mean, bound, seed =
    0, counted, counted * likely, policy_bound, policy_bound
  if known[k] then
    local words = {}
    for word in string.gmatch(known[k], '%S+') do words[#words + 1] = tonumber(word) end
    n, counted_mean, input_mean, bound, seed = unpack(words, 1, 5)
  end
  n = n + 1
  local rate = math.max(0.02, 1 / (n + 1))
  counted_mean = counted_mean + rate * (counted - counted_mean)
  input_mean = input_mean + rate * (math.min(input, counted * ceiling + extra) - input_mean)
  if seed ~= policy_bound then bound = math.max(bound, policy_bound) end
  if input > counted * bound + extra then
    bound = bound * 1.1
  else
    bound = bound * (1 - 1 / 20000)
  end
  bound = math.min(math.max(bound, (likely + policy_bound) / 2), ceiling)
  written[#written + 1] = field
  written[#written + 1] = string.format('%.0f %.17g %.17g %.17g %.17g',
    n, counted_mean, input_mean, bound, policy_bound)
end
redis.call('HSET', learned, unpack(written))
return reply
