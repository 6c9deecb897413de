-- Make a grant or a transfer: an entry in the counters of its budgets, its record, its audit line.
-- ARGV: 2 stored id, 3 kind, 4 actor, 5 until (ms), 6 record (JSON), 7 period id, 8 its start and
-- 9 its end (ms), then for each part: budget, rule, amount (below zero: it gives).
local now = now_ms()
local id, kind, period = ARGV[2], ARGV[3], ARGV[7]
local till = tonumber(ARGV[5])
local records = P .. 'grants:' .. period

local states = {}
for i = 10, #ARGV, 3 do
  local state = read_state(ARGV[i], ARGV[i + 1], period)
  if not state then return {'unpublished', ARGV[i + 1]} end
  states[#states + 1] = state
end
local function reply(states)
  local rows = {}
  for i, state in ipairs(states) do rows[i] = reply_state(state) end
  return {'granted', int(now), rows}
end
if redis.call('HEXISTS', records, id) == 1 then return reply(states) end
if now < tonumber(ARGV[8]) or now >= tonumber(ARGV[9]) then return {'clock', int(now)} end
if till <= now then return {'refused', 'over', ARGV[10], '0'} end
for i, state in ipairs(states) do
  local amount = tonumber(ARGV[9 + 3 * i])
  local _, count = string.gsub(state.grants, ';', ';')
  if count >= GRANTS_PER_COUNTER_MAX then return {'refused', 'too_many', state.budget, '0'} end
  local lasting = state.published + state.carry - state.spent - state.held
  for granted, until_ms in string.gmatch(state.grants, ':(%-?%d+):(%d+);') do
    granted, until_ms = tonumber(granted), tonumber(until_ms)
    if until_ms > now and (granted < 0 or until_ms >= till) then lasting = lasting + granted end
  end
  if amount < 0 and lasting + amount < 0 then
    return {'refused', 'insufficient', state.budget, int(math.max(0, lasting))}
  end
end

local after = {}
for i, state in ipairs(states) do
  register(state)
  redis.call('HSET', counter_key(state.budget, period), 'grants',
    state.grants .. id .. ':' .. ARGV[9 + 3 * i] .. ':' .. ARGV[5] .. ';')
  after[i] = read_state(state.budget, state.rule, period)
end
local record = '{"time_ms":' .. int(now) .. ',' .. string.sub(ARGV[6], 2)
redis.call('HSET', records, id, record)
append_trail(ARGV[4], kind, record, now)
add_event('granted', now, record)
return reply(after)
