-- Closed periods: what they hand on to the period after them, and how late changes follow.
-- This text stands between `lib.lua` and each script.

-- What of a balance is handed on: all of it, but for what passes the bounds `LEAST:MOST`.
local function within(balance, bounds)
  local least, most = string.match(bounds or ':', '^(-?%d*):(-?%d*)$')
  if most ~= '' then balance = math.min(balance, tonumber(most)) end
  if least ~= '' then balance = math.max(balance, tonumber(least)) end
  return balance
end

-- Add to a budget's carry in the period after a closed one; say whether that is closed as well.
local function carry_in(budget, rule, period, following, change)
  local key = counter_key(budget, following)
  local counter = redis.call('HMGET', key, 'rule', 'closed')
  local state = {
    budget = budget, rule = rule, period = following, registered = counter[1], closed = counter[2],
  }
  register(state)
  redis.call('HINCRBY', key, 'carry', int(change))
  redis.call('HSET', key, 'carry_from', period)
  return state.closed
end

-- Note a change of a closed period as an addendum and hand it on: where the budget carries, what
-- it hands on is always its limit at the closing + its own carry - spent - held, within its bounds.
-- Where the period
-- after it is closed as well, the change goes on from there. `cause` is the hold that changed it,
-- or empty; `entry` the entry that says so, or empty.
amend = function(budget, period, spent, cause, entry, now)
  while true do
    local key = P .. 'closed:' .. period
    local row = redis.call('HMGET', key, 'following', 'limit:' .. budget, 'carried:' .. budget,
      'bounds:' .. budget)
    local following, change = row[1], 0
    if row[2] then
      local counter = redis.call('HMGET', counter_key(budget, period), 'carry', 'spent', 'held')
      local balance = tonumber(row[2]) + tonumber(counter[1] or 0) - tonumber(counter[2] or 0)
        - tonumber(counter[3] or 0)
      change = within(balance, row[4]) - tonumber(row[3])
    end
    if change ~= 0 or tonumber(spent) ~= 0 then
      redis.call('XADD', P .. 'addenda', '*', 'period', period, 'budget', budget, 'time', int(now),
        'spent', int(spent), 'carry', int(change), 'hold', cause, 'entry', entry)
    end
    if change == 0 then return end
    redis.call('HINCRBY', key, 'carried:' .. budget, int(change))
    local rule = redis.call('HGET', counter_key(budget, period), 'rule')
    if not carry_in(budget, rule, period, following, change) then return end
    period, spent = following, 0
  end
end
