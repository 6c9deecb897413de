-- Make a delivery of an alert for each channel, once.
-- ARGV: 2 its line in the outbox, 3 alert id, 4 kind, 5 level, 6 time, 7 facts, 8 TTL (s), then the
-- channels.
if redis.call('XACK', P .. 'outbox', 'workers', ARGV[2]) == 0 then return 0 end
redis.call('XDEL', P .. 'outbox', ARGV[2])
local now, key = now_ms(), P .. 'alert:' .. ARGV[3]
redis.call('HSET', key, 'kind', ARGV[4], 'level', ARGV[5], 'time', ARGV[6], 'facts', ARGV[7])
redis.call('EXPIRE', key, ARGV[8])
for i = 9, #ARGV do
  redis.call('HSET', key, 'state:' .. ARGV[i], 'waiting')
  redis.call('ZADD', P .. 'alert_due', int(now), ARGV[3] .. '|' .. ARGV[i])
end
return 1
