-- Charge a hold with what its request really cost, once.
-- ARGV: 2 hold id, 3 cost, 4 body, 5 number of charges, 6 number of counters, then the charges
-- (budget, amount), the counters (name, increment) and the samples (key, output tokens, seed or
-- '', rate).
local now = now_ms()
local charge_of, counters = {}, {}
local at = 7
for _ = 1, tonumber(ARGV[5]) do
  charge_of[ARGV[at]] = tonumber(ARGV[at + 1])
  at = at + 2
end
for _ = 1, tonumber(ARGV[6]) do
  counters[#counters + 1] = ARGV[at]
  counters[#counters + 1] = ARGV[at + 1]
  at = at + 2
end
local cost = tonumber(ARGV[3])
local reply = resolve(ARGV[2], {
  state = 'settled', cost = cost, body = ARGV[4], counters = counters,
  charge = function(share) return charge_of[share[1]] or cost end,
}, now)
if reply[1] ~= 'settled' and reply[1] ~= 'corrected' then return reply end

-- Learned output lengths; `budgets/learning.py` is the same arithmetic, with its reasons.
local learned = P .. 'learned'
for i = at, #ARGV, 4 do
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
return reply
