-- Record a request that was not sent, with its decision, once.
-- ARGV: 2 decision id, 3 code, 4 body, 5 decision, 6 the decision's TTL (s), 7 stats period, then
-- the counters (name, increment).
local marker = P .. 'refused:' .. ARGV[2]
local now = now_ms()
local recorded = redis.call('GET', marker)
if recorded and now - tonumber(recorded) < 3600 * 1000 then return 0 end
redis.call('SET', marker, int(now), 'EX', '3600')
redis.call('XADD', P .. 'refusals', 'MAXLEN', '~', STREAM_LINES_MAX, '*',
  'kind', ARGV[3], 'time', int(now), 'decision_id', ARGV[2], 'body', ARGV[4])
redis.call('SET', P .. 'decision:' .. ARGV[2], ARGV[5], 'EX', ARGV[6])
local counters = {}
for i = 8, #ARGV do counters[#counters + 1] = ARGV[i] end
add_counters(ARGV[7], counters)
return 1
