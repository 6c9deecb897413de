-- Remember what a session has reached, unless it has reached more already, and for how long.
-- ARGV: 2 owner, 3 session, 4 rank, 5 category, 6 group, 7 expires (ms), 8 sessions of an owner.
-- What has ended is forgotten on the way, and what is too much with it: an owner's sessions take a
-- bounded room whatever ids its callers think of, and none of another owner's.
local now = now_ms()
local key, session = P .. 'sessions:' .. ARGV[2], ARGV[3]
local ends = key .. ':ends'
local alive = redis.call('ZSCORE', ends, session)
local before = alive and tonumber(alive) > now and redis.call('HGET', key, session)
if not before or cjson.decode(before)[1] + 0 <= tonumber(ARGV[4]) then
  redis.call('HSET', key, session, cjson.encode({ARGV[4], ARGV[5], ARGV[6]}))
end
redis.call('ZADD', ends, int(now + tonumber(ARGV[7])), session)
local gone = redis.call('ZRANGEBYSCORE', ends, '-inf', int(now), 'LIMIT', 0, 100)
local over = redis.call('ZCARD', ends) - #gone - tonumber(ARGV[8])
if over > 0 then
  gone = redis.call('ZRANGE', ends, 0, #gone + math.min(over, 100) - 1)
end
if #gone > 0 then
  redis.call('ZREM', ends, unpack(gone))
  redis.call('HDEL', key, unpack(gone))
end
local seconds = math.ceil(tonumber(ARGV[7]) / 1000)
redis.call('EXPIRE', key, seconds)
redis.call('EXPIRE', ends, seconds)
return 1
