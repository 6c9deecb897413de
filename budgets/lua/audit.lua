-- Compare counters with what their entries and open holds add up to, each at one instant; with
-- `set`, put them right in the same step. Read like this, nothing that happens between two calls can
-- look like a difference, and nothing that happens meanwhile can be lost by a repair.
-- ARGV: 2 `read` or `set`, 3 the last archived id and 4 the last live id that the caller has added
-- up, 5 the lease of an open hold that has none (ms), then for each counter: budget, period id, its
-- charges up to there, its archived sum ('' leaves what is recorded), a number of holds, their ids.
-- Replies `moved` where more is archived by now, `behind` where too many entries have come since.
local LATE_MAX = 500
local sets = ARGV[2] == 'set'
if (redis.call('HGET', P .. 'archive', 'to') or '') ~= ARGV[3] then return {'moved', {}} end
local beyond = ARGV[4] == '' and '-' or '(' .. ARGV[4]
local late = redis.call('XRANGE', P .. 'entries', beyond, '+', 'COUNT', int(LATE_MAX + 1))
if #late > LATE_MAX then return {'behind', {}} end
local late_of = {}
for _, entry in ipairs(late) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'charges' then
      for _, charge in ipairs(cjson.decode(entry[2][i + 1])) do
        local name = charge[2] .. ':' .. charge[1]
        late_of[name] = late_of[name] or {}
        table.insert(late_of[name], charge[3])
      end
    end
  end
end

-- The hold and its amount for this counter, if it is open.
local function open_share(id, budget, period)
  local hold = read_hold(id)
  if not hold or hold.state ~= 'open' then return nil end
  for _, share in ipairs(hold.shares) do
    if share[1] == budget and share[3] == period then return hold, share[4] end
  end
end

local lease_end = now_ms() + tonumber(ARGV[5])
local rows = {}
local at = 6
while at <= #ARGV do
  local budget, period, charged, archived = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local key, ends = counter_key(budget, period), ends_key(budget, period)
  local name = period .. ':' .. budget
  local ids = redis.call('ZRANGE', ends, 0, -1)
  local expected = #ids
  for i = 1, tonumber(ARGV[at + 4]) do ids[#ids + 1] = ARGV[at + 4 + i] end
  local seen, open, amounts, right, unleased = {}, {}, {}, 0, {}
  for i, id in ipairs(ids) do
    local hold, amount
    if not seen[id] then hold, amount = open_share(id, budget, period) end
    seen[id] = true
    if hold then
      open[#open + 1], amounts[#amounts + 1] = hold, amount
      if i <= expected then right = right + 1 end
      if not redis.call('ZSCORE', P .. 'leases', id) then unleased[#unleased + 1] = id end
    end
  end
  local counter = redis.call('HMGET', key, 'spent', 'held', 'holds')
  local recorded = redis.call('HGET', P .. 'archived', name)
  rows[#rows + 1] = {budget, period, counter[1] or '0', counter[2] or '0', counter[3] or '0',
    recorded or '0', amounts, int(#unleased), int(expected), int(right), late_of[name] or {}}
  if sets then
    redis.call('SADD', P .. 'counters', name)
    redis.call('HSET', key, 'spent', charged, 'held', '0', 'holds', int(#open))
    redis.call('HSETNX', key, 'rule', string.match(budget, '^[^:]*'))
    for _, amount in ipairs(late_of[name] or {}) do redis.call('HINCRBY', key, 'spent', amount) end
    redis.call('DEL', ends)
    for i, hold in ipairs(open) do
      redis.call('HINCRBY', key, 'held', amounts[i])
      redis.call('ZADD', ends, int(hold.expected_end), hold.id)
    end
    for _, id in ipairs(unleased) do redis.call('ZADD', P .. 'leases', int(lease_end), id) end
    if archived ~= '' then redis.call('HSET', P .. 'archived', name, archived) end
  end
  at = at + 5 + tonumber(ARGV[at + 4])
end
return {'rows', rows}
