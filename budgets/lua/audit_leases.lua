-- Count the leases among some that belong to no open hold. ARGV: from 2 on, the hold ids.
local stray = 0
for i = 2, #ARGV do
  if redis.call('ZSCORE', P .. 'leases', ARGV[i])
    and redis.call('HGET', P .. 'hold:' .. ARGV[i], 'state') ~= 'open' then
    stray = stray + 1
  end
end
return stray
