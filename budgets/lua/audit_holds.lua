-- Find the open ones among some holds, and the leases among them that belong to none; with `set`,
-- remove those leases. ARGV: 2 `read` or `set`, then the hold ids.
local stray, open = 0, {}
for i = 3, #ARGV do
  local hold = read_hold(ARGV[i])
  if hold and hold.state == 'open' then
    local row = {hold.id}
    for _, share in ipairs(hold.shares) do
      row[#row + 1] = share[1]
      row[#row + 1] = share[3]
    end
    open[#open + 1] = row
  elseif redis.call('ZSCORE', P .. 'leases', ARGV[i]) then
    stray = stray + 1
    if ARGV[2] == 'set' then redis.call('ZREM', P .. 'leases', ARGV[i]) end
  end
end
return {int(stray), open}
