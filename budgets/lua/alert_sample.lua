-- Add what budgets spent since the last sample to the sum of this hour. The sums themselves are read
-- outside, and old ones removed: that is much for a script that others wait for.
-- ARGV: 2 how long an unwatched budget's sums are kept (s), then for each: budget, rule, period id.
local now = now_ms()
local hour, rows = int(math.floor(now / (3600 * 1000))), {}
for i = 3, #ARGV, 3 do
  local state = read_state(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if state then
    local key = P .. 'hours:' .. state.budget
    local kept = redis.call('HMGET', key, 'period', 'spent', 'since')
    local added, since = 0, kept[3]
    if not kept[1] then
      -- The first sample: nobody knows when that was spent.
      since = int(now)
      redis.call('HSET', key, 'since', since)
    elseif kept[1] == state.period then
      added = state.spent - tonumber(kept[2])
    else
      added = state.spent
    end
    if kept[1] ~= state.period or added ~= 0 then
      redis.call('HSET', key, 'period', state.period, 'spent', int(state.spent))
    end
    if added ~= 0 then redis.call('HINCRBY', key, 'h:' .. hour, int(added)) end
    redis.call('EXPIRE', key, ARGV[2])
    rows[#rows + 1] = {reply_state(state), since}
  end
end
return {int(now), rows}
