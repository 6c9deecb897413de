-- Close a period: freeze a statement of its budgets, once, and hand their balances on.
-- ARGV: 2 period id, 3 its start and 4 its end (ms), 5 the id of the period that follows, then for
-- each budget that has a row even if nothing was spent: budget, rule.
local now = now_ms()
local period, following = ARGV[2], ARGV[5]
local key = P .. 'closed:' .. period
local function reply()
  local kept = redis.call('HMGET', key, 'start', 'end', 'following', 'time', 'rows')
  return {'closed', period, kept[1], kept[2], kept[3], kept[4], kept[5]}
end
if redis.call('EXISTS', key) == 1 then return reply() end
if now < tonumber(ARGV[4]) then return {'open', int(now)} end

local rule_of, budgets = {}, {}
for i = 6, #ARGV, 2 do rule_of[ARGV[i]] = ARGV[i + 1] end
for _, name in ipairs(redis.call('SMEMBERS', P .. 'counters')) do
  if string.sub(name, 1, #period + 1) == period .. ':' then
    local budget = string.sub(name, #period + 2)
    rule_of[budget] = redis.call('HGET', counter_key(budget, period), 'rule')
      or rule_of[budget] or string.match(budget, '^[^:]*')
  end
end
for budget in pairs(rule_of) do budgets[#budgets + 1] = budget end
for _, budget in ipairs(budgets) do
  -- All or nothing: a limit that is not known stops the closing before its first write.
  if not read_state(budget, rule_of[budget], period) then return {'unpublished', rule_of[budget]} end
end

redis.call('HSET', key, 'start', ARGV[3], 'end', ARGV[4], 'following', following, 'time', int(now))
local rows = {}
for i, budget in ipairs(budgets) do
  local state = read_state(budget, rule_of[budget], period)
  register(state)
  local counter = counter_key(budget, period)
  redis.call('HSET', counter, 'closed', '1')
  -- What transfers moved until the end, and of grants the part that was used: see `grants/types.py`.
  local moved, given = 0, 0
  for kind, amount, till in string.gmatch(state.grants, '([gt])[^:;]*:(%-?%d+):(%d+);') do
    if kind == 'g' then given = given + tonumber(amount) end
    if kind == 't' and tonumber(till) >= tonumber(ARGV[4]) then moved = moved + tonumber(amount) end
  end
  local left = state.published + state.carry + moved - state.spent - state.held
  local granted = moved + math.min(given, math.max(0, -left))
  local balance = left - moved + granted
  local carried = ''
  if state.bounds then
    carried = int(within(balance, state.bounds))
    redis.call('HSET', key, 'limit:' .. budget, int(state.published + granted), 'carried:' .. budget,
      carried, 'bounds:' .. budget, state.bounds)
  end
  rows[i] = {budget, state.rule, int(state.published), int(state.carry), int(state.spent),
    int(state.held), int(state.holds), redis.call('HGET', counter, 'unreconciled') or '0', carried,
    int(granted)}
end
redis.call('HSET', key, 'rows', encode_shares(rows))
for i, row in ipairs(rows) do
  if row[9] ~= '' and carry_in(row[1], row[2], period, following, tonumber(row[9])) then
    amend(row[1], following, 0, '', '', now)
  end
end
add_event('period_closed', now, '{"period_id":' .. cjson.encode(period)
  .. ',"budgets":' .. int(#rows) .. '}')
append_trail('ledger', 'period_closed', '{"budgets":' .. int(#rows) .. ',"period_id":'
  .. cjson.encode(period) .. '}', now)
return reply()
