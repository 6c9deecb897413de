-- Ask all workers for their slices of some budgets: they hear of it with their next word.
-- ARGV: 2 on: budget, period id.
local now = now_ms()
for i = 2, #ARGV, 2 do
  local key = counter_key(ARGV[i], ARGV[i + 1])
  if redis.call('HEXISTS', key, 'rule') == 1 then redis.call('HSET', key, 'recalled', int(now)) end
end
return 1
