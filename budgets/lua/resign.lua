-- Give a role up; only its owner can. ARGV: 2 role, 3 owner.
local key, role = P .. 'leads', ARGV[2]
if redis.call('HGET', key, 'owner:' .. role) ~= ARGV[3] then return 0 end
redis.call('HDEL', key, 'owner:' .. role, 'until:' .. role)
return 1
