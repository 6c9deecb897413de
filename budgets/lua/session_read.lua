-- Return a session's rank, category and group; nothing where it is unknown or has ended.
-- ARGV: 2 owner, 3 session.
local key = P .. 'sessions:' .. ARGV[2]
local ends = redis.call('ZSCORE', key .. ':ends', ARGV[3])
if not ends or tonumber(ends) <= now_ms() then return {} end
local state = redis.call('HGET', key, ARGV[3])
if not state then return {} end
return cjson.decode(state)
