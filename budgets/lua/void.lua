-- Release a hold without a charge, once, leaving an entry of cost 0.
-- ARGV: 2 hold id, 3 body, 4 1 if a hold that is not there yet is forbidden to come, then the
-- counters (name, increment).
local counters = {}
for i = 5, #ARGV do counters[#counters + 1] = ARGV[i] end
local now = now_ms()
local reply = resolve(ARGV[2], {
  state = 'voided', cost = 0, body = ARGV[3], counters = counters,
  charge = function() return 0 end,
}, now)
if reply[1] == 'unknown_hold' and ARGV[4] == '1' then
  local key = P .. 'hold:' .. ARGV[2]
  redis.call('HSET', key, 'state', 'voided', 'amount', '0', 'time', int(now), 'expected_end',
    int(now), 'shares', '[]', 'decision_id', '', 'stats_period', '')
  redis.call('EXPIRE', key, ENDED_TTL_S)
end
return reply
