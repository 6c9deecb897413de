-- Name the open holds of a period, by the end of their lease, and say how many there are.
-- ARGV: 2 period id, 3 the most holds to name. Every open hold has a lease.
local period, most = ARGV[2], tonumber(ARGV[3])
local leases = redis.call('ZRANGE', P .. 'leases', 0, -1, 'WITHSCORES')
local count, rows = 0, {}
for i = 1, #leases, 2 do
  local hold = redis.call('HMGET', P .. 'hold:' .. leases[i], 'shares', 'decision_id', 'amount',
    'time')
  local within_period = false
  for _, share in ipairs(hold[1] and cjson.decode(hold[1]) or {}) do
    within_period = within_period or share[3] == period
  end
  if within_period then
    count = count + 1
    if count <= most then
      rows[count] = {leases[i], hold[2], hold[3], hold[4], int(tonumber(leases[i + 1]))}
    end
  end
end
return {int(count), rows}
