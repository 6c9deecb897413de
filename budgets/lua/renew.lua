-- Extend the leases of those holds that are open; a lease is never shortened.
-- ARGV: 2 lease (ms from now), then the hold ids.
local lease_end = now_ms() + tonumber(ARGV[2])
local open = 0
for i = 3, #ARGV do
  local old = redis.call('ZSCORE', P .. 'leases', ARGV[i])
  if old then
    open = open + 1
    if tonumber(old) < lease_end then
      redis.call('ZADD', P .. 'leases', int(lease_end), ARGV[i])
    end
  end
end
return open
