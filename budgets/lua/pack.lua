-- Replace decisions by their packed texts; one that is no longer there is left alone.
-- ARGV: for each decision its id, the packed text, and how long that is kept (s). Replies how many
-- were replaced.
local count = 0
for i = 2, #ARGV, 3 do
  local key = P .. 'decision:' .. ARGV[i]
  if redis.call('EXISTS', key) == 1 then
    redis.call('SET', P .. 'packed:' .. ARGV[i], ARGV[i + 1], 'EX', ARGV[i + 2])
    redis.call('DEL', key)
    count = count + 1
  end
end
return int(count)
