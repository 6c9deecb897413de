-- Read what a closed period has handed on and what it owes, at one instant with the last addendum.
-- ARGV: 2 period id. Replies nothing where the period is not closed.
local period = ARGV[2]
local fields = redis.call('HGETALL', P .. 'closed:' .. period)
if #fields == 0 then return {} end
local kept, rows = {}, {}
for i = 1, #fields, 2 do kept[fields[i]] = fields[i + 1] end
for name, limit in pairs(kept) do
  local budget = string.match(name, '^limit:(.*)$')
  if budget then
    local counter = redis.call('HMGET', counter_key(budget, period), 'carry', 'spent', 'held')
    local owed = tonumber(limit) + tonumber(counter[1] or 0) - tonumber(counter[2] or 0)
      - tonumber(counter[3] or 0)
    local after = redis.call('HMGET', counter_key(budget, kept['following']), 'carry', 'carry_from')
    local received = after[2] == period and after[1] or '0'
    owed = within(owed, kept['bounds:' .. budget])
    rows[#rows + 1] = {budget, kept['carried:' .. budget] or '0', int(owed), received}
  end
end
local last = redis.call('XREVRANGE', P .. 'addenda', '+', '-', 'COUNT', '1')
return {last[1] and last[1][1] or '', rows, {'closed', period, kept['start'], kept['end'],
  kept['following'], kept['time'], kept['rows']}}
