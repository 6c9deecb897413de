-- Compare counters with what their entries and open holds add up to, each at one instant; with
-- `set`, put them right in the same step. Read like this, nothing that happens between two calls can
-- look like a difference, and nothing that happens meanwhile can be lost by a repair.
-- With `many`, holds are not looked at: their ids stand in the reply, for counters that have so many
-- that others would wait for it.
-- ARGV: 2 `read`, `many` or `set`, 3 the last archived id and 4 the last live id that the caller has added
-- up, 5 the lease of an open hold that has none (ms), then for each counter: budget, period id, its
-- charges up to there and what of them is unreconciled, the archived sums of both ('' leaves what is
-- recorded), a number of holds, their ids.
-- Replies `moved` where more is archived by now, `behind` where too many entries have come since.
local LATE_MAX = 500
local sets = ARGV[2] == 'set'
if (redis.call('HGET', P .. 'archive', 'to') or '') ~= ARGV[3] then return {'moved', {}} end
local beyond = ARGV[4] == '' and '-' or '(' .. ARGV[4]
local late = redis.call('XRANGE', P .. 'entries', beyond, '+', 'COUNT', int(LATE_MAX + 1))
if #late > LATE_MAX then return {'behind', {}} end
-- What late entries have added, by their field and then by counter.
local late_of = {charges = {}, unreconciled = {}}
for _, entry in ipairs(late) do
  for i = 1, #entry[2], 2 do
    local found = late_of[entry[2][i]]
    for _, charge in ipairs(found and cjson.decode(entry[2][i + 1]) or {}) do
      local name = charge[2] .. ':' .. charge[1]
      found[name] = found[name] or {}
      table.insert(found[name], charge[3])
    end
  end
end

-- What is recorded of a period's grants: for each budget the entries that its counter must have.
local recorded_in = {}
local function recorded_grants(budget, period)
  if not recorded_in[period] then
    local rows, found = redis.call('HGETALL', P .. 'grants:' .. period), {}
    for i = 1, #rows, 2 do
      local record = cjson.decode(rows[i + 1])
      for _, part in ipairs(record.parts) do
        found[part.budget] = found[part.budget] or {}
        table.insert(found[part.budget], rows[i] .. ':' .. part.amount_nano_usd .. ':'
          .. int(record.until_ms) .. ';')
      end
    end
    recorded_in[period] = found
  end
  return recorded_in[period][budget] or {}
end

-- What a counter's grants add up to as stored and as recorded. Where another entry only has the
-- same sum, as where a time was changed, the stored ones count that are right.
local function compare_grants(stored, recorded)
  local is_recorded, sums = {}, {stored = 0, right = 0, recorded = 0}
  local entries, rightly = 0, 0
  for _, entry in ipairs(recorded) do
    is_recorded[entry] = true
    sums.recorded = sums.recorded + tonumber(string.match(entry, ':(%-?%d+):'))
  end
  for entry in string.gmatch(stored, '[^;]*;') do
    local amount = tonumber(string.match(entry, ':(%-?%d+):') or 0)
    entries, sums.stored = entries + 1, sums.stored + amount
    if is_recorded[entry] then rightly, sums.right = rightly + 1, sums.right + amount end
  end
  local same = entries == #recorded and rightly == #recorded
  if not same and sums.stored == sums.recorded then sums.stored = sums.right end
  return int(sums.stored), int(sums.recorded)
end

-- The hold and its amount for this counter, if it is open.
local function open_share(id, budget, period)
  local hold = read_hold(id)
  if not hold or hold.state ~= 'open' then return nil end
  for _, share in ipairs(hold.shares) do
    if share[1] == budget and share[3] == period then return hold, share[4] end
  end
end

local lease_end = peek_ms() + tonumber(ARGV[5])
local rows = {}
local at = 6
while at <= #ARGV do
  local budget, period, charged, unreconciled = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local archived, archived_unreconciled = ARGV[at + 4], ARGV[at + 5]
  local key, ends = counter_key(budget, period), ends_key(budget, period)
  local name = period .. ':' .. budget
  local ids = redis.call('ZRANGE', ends, 0, -1)
  local expected = #ids
  for i = 1, tonumber(ARGV[at + 6]) do ids[#ids + 1] = ARGV[at + 6 + i] end
  local seen, open, amounts, right, unleased = {}, {}, {}, 0, {}
  for i, id in ipairs(ARGV[2] == 'many' and {} or ids) do
    local hold, amount
    if not seen[id] then hold, amount = open_share(id, budget, period) end
    seen[id] = true
    if hold then
      open[#open + 1], amounts[#amounts + 1] = hold, amount
      if i <= expected then right = right + 1 end
      if not redis.call('ZSCORE', P .. 'leases', id) then unleased[#unleased + 1] = id end
    end
  end
  local counter = redis.call('HMGET', key, 'spent', 'held', 'holds', 'unreconciled', 'carry',
    'carry_from', 'grants')
  local recorded = recorded_grants(budget, period)
  local granted, granted_rightly = compare_grants(counter[7] or '', recorded)
  local late_charges = late_of.charges[name] or {}
  local late_unreconciled = late_of.unreconciled[name] or {}
  rows[#rows + 1] = {budget, period, counter[1] or '0', counter[2] or '0', counter[3] or '0',
    counter[4] or '0', redis.call('HGET', P .. 'archived', name) or '0',
    redis.call('HGET', P .. 'archived_unreconciled', name) or '0', amounts, int(#unleased),
    int(expected), int(right), late_charges, late_unreconciled,
    counter[6] and '0' or counter[5] or '0', granted, granted_rightly,
    ARGV[2] == 'many' and ids or {}}
  if sets then
    redis.call('SADD', P .. 'counters', name)
    redis.call('HSET', key, 'spent', charged, 'held', '0', 'holds', int(#open), 'unreconciled',
      unreconciled)
    redis.call('HSETNX', key, 'rule', string.match(budget, '^[^:]*'))
    if granted ~= granted_rightly then
      redis.call('HSET', key, 'grants', table.concat(recorded))
    end
    for _, amount in ipairs(late_charges) do redis.call('HINCRBY', key, 'spent', amount) end
    for _, amount in ipairs(late_unreconciled) do
      redis.call('HINCRBY', key, 'unreconciled', amount)
    end
    redis.call('DEL', ends)
    for i, hold in ipairs(open) do
      redis.call('HINCRBY', key, 'held', amounts[i])
      redis.call('ZADD', ends, int(hold.expected_end), hold.id)
    end
    for _, id in ipairs(unleased) do redis.call('ZADD', P .. 'leases', int(lease_end), id) end
    if archived ~= '' then
      redis.call('HSET', P .. 'archived', name, archived)
      redis.call('HSET', P .. 'archived_unreconciled', name, archived_unreconciled)
    end
    if redis.call('EXISTS', P .. 'closed:' .. period) == 1 then
      redis.call('HSET', key, 'closed', '1')
      -- What came late while the counter was wrong was handed on wrongly.
      amend(budget, period, 0, '', '', now_ms())
    end
  end
  at = at + 7 + tonumber(ARGV[at + 6])
end
return {'rows', rows}
