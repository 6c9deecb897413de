-- Begin anew with deliveries that were given up. ARGV: 2 TTL of an alert (s), then ID|CHANNEL each.
local now, begun = now_ms(), 0
for i = 3, #ARGV do
  local id, channel = string.match(ARGV[i], '^([^|]*)|(.*)$')
  if id and redis.call('ZREM', P .. 'alert_dead', ARGV[i]) == 1 then
    local key = P .. 'alert:' .. id
    if redis.call('EXISTS', key) == 1 then
      redis.call('HSET', key, 'state:' .. channel, 'waiting', 'attempts:' .. channel, '0')
      redis.call('EXPIRE', key, ARGV[2])
      redis.call('ZADD', P .. 'alert_due', int(now), ARGV[i])
      begun = begun + 1
    end
  end
end
return begun
