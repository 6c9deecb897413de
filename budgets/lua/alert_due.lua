-- Hand out deliveries that are due; each is due again when its lease ends.
-- ARGV: 2 the most, 3 lease (ms).
local now, rows = now_ms(), {}
local due = redis.call('ZRANGEBYSCORE', P .. 'alert_due', '-inf', int(now), 'LIMIT', '0', ARGV[2])
for _, name in ipairs(due) do
  local id, channel = string.match(name, '^([^|]*)|(.*)$')
  local key = P .. 'alert:' .. id
  local alert = redis.call('HMGET', key, 'kind', 'level', 'time', 'facts', 'attempts:' .. channel)
  if not alert[1] then
    redis.call('ZREM', P .. 'alert_due', name)
  else
    redis.call('ZADD', P .. 'alert_due', int(now + tonumber(ARGV[3])), name)
    local taken = redis.call('HINCRBY', key, 'taken:' .. channel, '1')
    rows[#rows + 1] = {id, alert[1], alert[2], alert[3], alert[4], channel, alert[5] or '0',
      int(taken)}
  end
end
return rows
