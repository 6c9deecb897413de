-- Read budgets as they stand. ARGV: for each budget from 2 on: budget, rule, period id.
local rules, states = {}, {}
for i = 3, #ARGV, 3 do rules[#rules + 1] = ARGV[i] end
read_limits(rules)
for i = 2, #ARGV, 3 do
  local state = read_state(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if not state then return {'unpublished', ARGV[i + 1]} end
  states[#states + 1] = reply_state(state)
end
return {'states', states}
