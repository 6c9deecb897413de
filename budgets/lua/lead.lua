-- Take or keep a role, unless another owner has it and the lease has not ended.
-- ARGV: 2 role, 3 owner, 4 lease (ms).
local now = now_ms()
local key, role, owner = P .. 'leads', ARGV[2], ARGV[3]
local held = redis.call('HMGET', key, 'owner:' .. role, 'until:' .. role)
if held[1] and held[1] ~= owner and tonumber(held[2]) > now then return {'0', int(now)} end
redis.call('HSET', key, 'owner:' .. role, owner, 'until:' .. role, int(now + tonumber(ARGV[4])))
return {'1', int(now)}
