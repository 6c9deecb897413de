-- Note what became of a delivery. ARGV: 2 alert id, 3 channel, 4 what `alert_due` said it was taken
-- as, 5 outcome (delivered, failed, dead, postponed), 6 error, 7 when it is due again (ms from now),
-- 8 how long the dead are kept (s).
local key, channel, outcome = P .. 'alert:' .. ARGV[2], ARGV[3], ARGV[5]
local name, now = ARGV[2] .. '|' .. channel, now_ms()
local known = redis.call('HMGET', key, 'state:' .. channel, 'taken:' .. channel)
if known[1] ~= 'waiting' then return 0 end
-- What arrived has arrived, whoever has the delivery by now.
if outcome ~= 'delivered' and known[2] ~= ARGV[4] then return 0 end
if outcome == 'postponed' then
  redis.call('ZADD', P .. 'alert_due', int(now + tonumber(ARGV[7])), name)
  return 1
end
if outcome == 'failed' or outcome == 'dead' then
  redis.call('HINCRBY', key, 'attempts:' .. channel, '1')
  redis.call('HSET', key, 'error:' .. channel, ARGV[6])
  redis.call('HINCRBY', P .. 'alert_counts', 'failed:' .. channel, '1')
end
if outcome == 'failed' then
  redis.call('ZADD', P .. 'alert_due', int(now + tonumber(ARGV[7])), name)
  return 1
end
redis.call('ZREM', P .. 'alert_due', name)
redis.call('HSET', key, 'state:' .. channel, outcome, 'ended:' .. channel, int(now))
redis.call('HINCRBY', P .. 'alert_counts', outcome .. ':' .. channel, '1')
if outcome == 'delivered' then
  redis.call('HDEL', key, 'error:' .. channel)
else
  redis.call('ZADD', P .. 'alert_dead', int(now), name)
  redis.call('ZREMRANGEBYSCORE', P .. 'alert_dead', '-inf', int(now - tonumber(ARGV[8]) * 1000))
end
return 1
