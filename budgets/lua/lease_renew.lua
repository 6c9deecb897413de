-- Keep slices, and say how their budgets stand.
-- ARGV: 2 lease (ms from now), then for each: slice id, budget, rule, period id.
local now = now_ms()
local lease_end = now + tonumber(ARGV[2])
local rows = {}
for i = 3, #ARGV, 4 do
  local id, budget, rule, period = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local slice, left = read_hold(id), 0
  if slice and slice.state == 'open' then
    left = tonumber(slice.shares[1][4])
    local old = tonumber(redis.call('ZSCORE', P .. 'leases', id) or 0)
    if old < lease_end then redis.call('ZADD', P .. 'leases', int(lease_end), id) end
  end
  rows[#rows + 1] = reply_slice(id, now, left, read_state(budget, rule, period), budget, period)
end
return rows
