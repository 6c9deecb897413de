-- Read counters together with their open holds and the last entry, at one instant.
-- Read like this, nothing that happens between two calls can look like a difference.
-- ARGV: for each counter from 2 on: budget, period id.
local last = redis.call('XREVRANGE', P .. 'entries', '+', '-', 'COUNT', '1')
local rows = {}
for i = 2, #ARGV, 2 do
  local budget, period = ARGV[i], ARGV[i + 1]
  local counter = redis.call('HMGET', counter_key(budget, period), 'spent', 'held', 'holds')
  local amounts, unleased = {}, 0
  local ids = redis.call('ZRANGE', ends_key(budget, period), 0, -1)
  for _, id in ipairs(ids) do
    local hold = read_hold(id)
    if hold and hold.state == 'open' then
      for _, share in ipairs(hold.shares) do
        if share[1] == budget and share[3] == period then amounts[#amounts + 1] = share[4] end
      end
      if not redis.call('ZSCORE', P .. 'leases', id) then unleased = unleased + 1 end
    end
  end
  rows[#rows + 1] = {budget, period, counter[1] or '0', counter[2] or '0', counter[3] or '0',
    amounts, int(unleased), int(#ids)}
end
return {last[1] and last[1][1] or '', rows}
