-- End waiting requests whose time is over, and forget their bodies.
-- ARGV: 2 how many at most, 3 kept (ms), 4 dead at most. Answers their ids.
local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', Q .. 'expiries', '-inf', int(now), 'LIMIT', '0', ARGV[2])
for _, id in ipairs(ids) do
  local item = read_item(id)
  if item then
    place(id, item, 'dead', now, 0, tonumber(ARGV[3]), tonumber(ARGV[4]))
    redis.call('HSET', Q .. 'item:' .. id, 'reason', 'expired')
    redis.call('DEL', Q .. 'body:' .. id)
    tell_of_death(id, item, 'expired', now)
  else
    redis.call('ZREM', Q .. 'expiries', id)
    redis.call('ZREM', Q .. 'waiting', id)
    redis.call('ZREM', Q .. 'arrivals', id)
  end
end
return ids
