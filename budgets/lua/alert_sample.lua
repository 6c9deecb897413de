-- Add what budgets spent since the last sample to the sum of this hour, and return those sums.
-- ARGV: 2 how many hours before this one are kept, then for each: budget, rule, period id.
local HOUR_MS = 3600 * 1000
local now = now_ms()
local hour, rows = math.floor(now / HOUR_MS), {}
for i = 3, #ARGV, 3 do
  local state = read_state(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if state then
    local key = P .. 'hours:' .. state.budget
    local fields, kept = redis.call('HGETALL', key), {}
    for j = 1, #fields, 2 do kept[fields[j]] = fields[j + 1] end
    local added = 0
    if not kept.period then
      -- The first sample: nobody knows when that was spent.
      kept.since = int(now)
      redis.call('HSET', key, 'since', kept.since)
    elseif kept.period == state.period then
      added = state.spent - tonumber(kept.spent)
    else
      added = state.spent
    end
    if kept.period ~= state.period or added ~= 0 then
      redis.call('HSET', key, 'period', state.period, 'spent', int(state.spent))
    end
    if added ~= 0 then
      kept['h:' .. int(hour)] = int(redis.call('HINCRBY', key, 'h:' .. int(hour), int(added)))
    end
    -- A budget that is watched no more is forgotten.
    redis.call('EXPIRE', key, (tonumber(ARGV[2]) + 24) * 3600)
    local hours = {}
    for field, spent in pairs(kept) do
      local number = string.match(field, '^h:(%d+)$')
      if number and tonumber(number) < hour - tonumber(ARGV[2]) then
        redis.call('HDEL', key, field)
      elseif number then
        hours[#hours + 1] = number
        hours[#hours + 1] = spent
      end
    end
    rows[#rows + 1] = {reply_state(state), kept.since, hours}
  end
end
return {int(now), rows}
