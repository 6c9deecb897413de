-- What some holds have put aside. ARGV: 2 on the hold ids. Replies for each that is known: id, 1 if
-- it is open, 1 if it has a lease, then its shares: budget, period id, amount.
local rows = {}
for i = 2, #ARGV do
  local hold = redis.call('HMGET', P .. 'hold:' .. ARGV[i], 'state', 'shares')
  if hold[1] then
    local leased = redis.call('ZSCORE', P .. 'leases', ARGV[i])
    local row = {ARGV[i], hold[1] == 'open' and '1' or '0', leased and '1' or '0'}
    for _, share in ipairs(cjson.decode(hold[2])) do
      row[#row + 1] = share[1]
      row[#row + 1] = share[3]
      row[#row + 1] = share[4]
    end
    rows[#rows + 1] = row
  end
end
return rows
