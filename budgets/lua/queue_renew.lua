-- Keep a claim. ARGV: 2 id, 3 runner, 4 lease (ms).
local item = read_item(ARGV[2])
if not item or item.state ~= 'running' or item.runner ~= ARGV[3] then return 0 end
redis.call('ZADD', Q .. 'running', int(now_ms() + tonumber(ARGV[4])), ARGV[2])
return 1
