-- Keep what a look at new entries gave, all of it and the cursor in one step, so that no entry
-- counts twice. Nothing is kept where another look came first.
-- ARGV: 2 the cursor that must be current, 3 the new one, then each with its number in front:
-- accepted (id, text as it was read), series (id, state, score or ''), findings (id, JSON, signal,
-- body of an alert or ''), ids of findings that are over, ids of series to forget.
local D = P .. 'drift:'
if (redis.call('GET', D .. 'cursor') or '') ~= ARGV[2] then return 0 end
local now, at = now_ms(), 4
local function each(width, act)
  local from, count = at + 1, tonumber(ARGV[at])
  at = from + count * width
  for i = from, at - 1, width do act(i) end
end
each(2, function(i)
  -- A person may have accepted it again meanwhile: that is for the next look.
  if redis.call('HGET', D .. 'accepted', ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', D .. 'accepted', ARGV[i])
  end
end)
each(3, function(i)
  if redis.call('HEXISTS', D .. 'series', ARGV[i]) == 0 then
    redis.call('HINCRBY', D .. 'counts', 'series', 1)
  end
  redis.call('HSET', D .. 'series', ARGV[i], ARGV[i + 1])
  if ARGV[i + 2] == '' then redis.call('HDEL', D .. 'scores', ARGV[i])
  else redis.call('HSET', D .. 'scores', ARGV[i], ARGV[i + 2]) end
end)
each(4, function(i)
  -- One that was accepted after this look had begun is not to come back by it.
  if redis.call('HEXISTS', D .. 'accepted', ARGV[i]) == 0 then
    redis.call('HSET', D .. 'findings', ARGV[i], ARGV[i + 1])
    if ARGV[i + 3] ~= '' then raise(ARGV[i + 2], now, ARGV[i + 3]) end
  end
end)
each(1, function(i) redis.call('HDEL', D .. 'findings', ARGV[i]) end)
each(1, function(i)
  if redis.call('HDEL', D .. 'series', ARGV[i]) == 1 then
    redis.call('HINCRBY', D .. 'counts', 'series', -1)
  end
  redis.call('HDEL', D .. 'scores', ARGV[i])
  redis.call('HDEL', D .. 'findings', ARGV[i])
end)
redis.call('SET', D .. 'cursor', ARGV[3])
return 1
