-- Raise an alert of a budget unless it is claimed already.
-- ARGV: 2 budget, 3 rule, 4 period id, 5 kind, 6 mark, 7 the limit epoch that it was judged by,
-- 8 body.
local now = now_ms()
local state = read_state(ARGV[2], ARGV[3], ARGV[4])
if not state or state.epoch ~= ARGV[7] then return 0 end
local key, field = counter_key(state.budget, state.period), 'claimed:' .. ARGV[5]
local claimed = state.epoch .. (ARGV[6] ~= '' and ':' .. ARGV[6] or '')
if redis.call('HGET', key, field) == claimed then return 0 end
register(state)
redis.call('HSET', key, field, claimed)
raise(ARGV[5], now, ARGV[8])
return 1
