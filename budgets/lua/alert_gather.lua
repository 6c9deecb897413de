-- Tell events of some kinds together: at once, and then not before a pause has passed.
-- ARGV: 2 the cursor that must be current, 3 the new one, 4 pause (ms), then for each kind: kind,
-- events, sum of their amounts.
local key, now = P .. 'alert_gathered', now_ms()
if (redis.call('HGET', key, 'cursor') or '') ~= ARGV[2] then return 0 end
redis.call('HSET', key, 'cursor', ARGV[3])
for i = 5, #ARGV, 3 do
  local kind = ARGV[i]
  if ARGV[i + 1] ~= '0' then
    redis.call('HINCRBY', key, 'count:' .. kind, ARGV[i + 1])
    redis.call('HINCRBY', key, 'sum:' .. kind, ARGV[i + 2])
    redis.call('HSETNX', key, 'since:' .. kind, int(now))
  end
  local known = redis.call('HMGET', key, 'count:' .. kind, 'sum:' .. kind, 'since:' .. kind,
    'until:' .. kind)
  if known[1] and tonumber(known[4] or 0) <= now then
    raise('gathered', now, '{"of":' .. cjson.encode(kind) .. ',"count":' .. known[1]
      .. ',"sum_nano_usd":' .. known[2] .. ',"since_ms":' .. known[3] .. '}')
    redis.call('HDEL', key, 'count:' .. kind, 'sum:' .. kind, 'since:' .. kind)
    redis.call('HSET', key, 'until:' .. kind, int(now + tonumber(ARGV[4])))
  end
end
return 1
