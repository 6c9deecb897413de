-- End every pause between attempts. Answers how many waited for one.
local now, count = now_ms(), 0
for _, id in ipairs(redis.call('ZRANGE', Q .. 'waiting', '0', '-1')) do
  local key = Q .. 'item:' .. id
  if tonumber(redis.call('HGET', key, 'not_before') or 0) > now then
    redis.call('HSET', key, 'not_before', '0')
    count = count + 1
  end
end
return count
