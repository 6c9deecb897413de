-- Take back every slice of a worker that has ended. What it spent is no part of them any more.
-- ARGV: 2 owner.
local key = P .. 'slices:' .. ARGV[2]
local slices = redis.call('HGETALL', key)
for i = 1, #slices, 2 do
  local period, rule = string.match(slices[i], '^(.-)|(.*)$')
  redis.call('HINCRBY', P .. 'allowance:' .. period, rule, int(-tonumber(slices[i + 1])))
end
redis.call('DEL', key)
redis.call('ZREM', P .. 'slice_owners', ARGV[2])
return #slices / 2
