-- What every ledger script shares. This text stands before each of them when it is loaded.
--
-- STORAGE FORMAT 1. Two releases may use one Redis at the same time, and an older one may follow a
-- newer one. So: fields and keys may be added; none may be renamed, removed, or given another
-- meaning; a script takes an absent field for zero and leaves fields alone that it does not know.
-- A change that breaks this rule needs a new FORMAT, and a new prefix for all keys.
--
-- All keys start with KEYS[1], `farebox:{NAME}:`, whose hash tag puts them in one cluster slot:
--   policy                  hash    format, digest, revision; limit:RULE, epoch:RULE and
--                                   thresholds:RULE (`level:percent:amount;…`, rising);
--                                   paused_until: no admission before that time;
--                                   carry:RULE (`none`, `balance`, or `LEAST:MOST`)
--   budget:PERIOD:BUDGET    hash    spent, held, holds, rule, claimed:LEVEL = limit epoch;
--                                   unreconciled (the part of spent that nobody has settled yet);
--                                   closed = 1 once the period is; carry, which adds to the limit,
--                                   and carry_from, the closed period that it comes from;
--                                   grants (`id:amount:until_ms;…`, only ever added to), which add
--                                   to the limit until they are over;
--                                   claimed:forecast = limit epoch, claimed:rate = `EPOCH:DAY`
--                                   recalled, when somebody last found no room: see `lease_recall`
--   ends:PERIOD:BUDGET      zset    the budget's open holds by expected end
--   counters                set     PERIOD:BUDGET of every budget hash
--   hold:ID                 hash    state (open, settled, voided, unreconciled), amount, time,
--                                   approval (its id, where one was used), shares, facts, decision_id, stats_period; once ended: charged,
--                                   overage, and a TTL instead of the facts
--                                   a leased slice has lease: what of it may be unreported
--   leases                  zset    the open holds by the end of their lease
--   entries                 stream  trimmed only of what is archived
--   archive                 hash    to (the id of the last archived entry), entries (their number)
--   archived                hash    PERIOD:BUDGET = the sum of its charges in archived entries
--   archived_unreconciled   hash    PERIOD:BUDGET = the sum of what they added to unreconciled
--   archive_parts           list    JSON of each archived file, the oldest first
--   events, refusals        stream  about the last million lines
--   decision:ID             string  JSON, with a TTL
--   packed:ID, packing…             decisions in small, instead of the above: see `budgets/packed.py`
--   refused:ID              string  when the refusal with this decision id was recorded, for an hour
--   stats:PERIOD            hash    running totals; `_` is none of them: see `add_counters`
--   allowance:PERIOD        hash    RULE = slices handed out and not taken back, with what was spent
--                                   by them; a TTL beyond the period's end
--   slices:OWNER            hash    PERIOD|RULE = the slice of one worker
--   slice_owners            zset    workers by when they last asked for slices
--   learned                 hash    n:KEY, mean:KEY, deviation:KEY, quantile95:KEY of outputs;
--                                   input:KEY (`n counted input bound seed`, KEY is group:NAME or
--                                   provider:NAME)
--   sessions:OWNER          hash    SESSION = JSON of rank, category, group; both names are hashes.
--                                   A TTL
--   sessions:OWNER:ends     zset    the same sessions by when they are forgotten; a TTL
--   clock                   string  the latest time that any script has gone by
--   leads                   hash    owner:ROLE, until:ROLE
--   closed:PERIOD           hash    start, end, following (a period id), time, rows (the statement,
--                                   JSON; never changed); limit:BUDGET and carried:BUDGET of those
--                                   that carry: what the period has handed on up to now; bounds:BUDGET
--                                   (`LEAST:MOST`), within which that is
--   month:PERIOD            string  the month's snapshot, JSON with its digest; never changed
--   addenda                 stream  what changed in closed periods; never trimmed
--   approval:ID             hash    a ticket: state (open, approved, denied), breach, kind, key, user,
--                                   task_type, budgets, requested, largest, requests, context,
--                                   proposal,
--                                   opened, expires, valid_to; first_key, first_user, first_terms;
--                                   once answered: decided_key, decided_user, decided, reason, and
--                                   its terms: uses_max, amount_max, until, by, terms; a TTL
--   approval_uses:ID        hash    hold id = what it held or cost; a TTL
--   approval_of:BREACH      string  the id of its last ticket, with a TTL
--   approvals               zset    tickets by when they were opened
--   approvals_open          zset    open tickets by when they expire
--   approvals_open:KEY      zset    those of one key
--   approvals_given         zset    approvals that match by themselves, by when they are over
--   grants:PERIOD           hash    id = JSON of each grant and transfer; never changed
--   trail                   stream  the audit trail, its ids NUMBER-0; never trimmed
--   trail_head              hash    seq, digest of the trail's last line
--   trail_marks             hash    what was noted last in the trail, by name
--   outbox                  stream  alerts that no worker has routed yet: id (of the event), kind,
--                                   time, body; read by the consumer group `workers`
--   alert:ID                hash    a routed alert (ID is its event's id): kind, level, time, body,
--                                   facts; for each channel state:CHANNEL (waiting, delivered,
--                                   dead), attempts:, taken:, error:, ended:; with a TTL
--   alert_due               zset    ID|CHANNEL of deliveries by when they are next due
--   alert_dead              zset    ID|CHANNEL of those that were given up, by when
--   alert_counts            hash    delivered:CHANNEL, failed:CHANNEL, dead:CHANNEL
--   alert_gathered          hash    cursor (an event's id), count:KIND, sum:KIND, since:KIND and
--                                   until:KIND of events that are told together
--   hours:BUDGET            hash    period and spent of the last sample, since (the first), h:HOUR
--                                   (spent in that hour, counted from 1970) of the last week
--   queue:…                         requests that wait for budget: see `queue_lib.lua`
--   drift:…                         the watch for drift: see `budgets/drift/store.py`, `findings.py`
--
-- Sums change by HINCRBY only, which is exact to 2^63. Lua's numbers are doubles, exact to 2^53
-- (9 million dollars), and serve for comparisons; `int` prints them without an exponent. Nothing
-- that holds live money has a TTL. The clock is Redis's own, kept from going back by `now_ms`;
-- ARGV[1] shifts it in tests.

local P = KEYS[1]
local FORMAT = '1'
local STREAM_LINES_MAX = '1000000'
local LEVELS = {'informational', 'warning', 'critical', 'emergency'}
-- Every hold reads a counter's grants.
local GRANTS_PER_COUNTER_MAX = 100
-- How long an ended hold is remembered: a repeated call still gets its definite result.
local ENDED_TTL_S = 7 * 86400
-- An expired hold waits longer, because a late settle may still correct it.
local UNRECONCILED_TTL_S = 62 * 86400
local RETRY_AFTER_MS_MIN = 250
local RETRY_AFTER_MS_DEFAULT = 1000
local RETRY_AFTER_MS_MAX = 3600 * 1000
-- A clock that went back further was wrong before: see `budgets/clock.py`.
local CLOCK_STEP_MS_MAX = 3600 * 1000

local function int(number)
  -- Adding 0 turns -0, which would print as `-0` and is no integer to Redis, into 0.
  return string.format('%.0f', number + 0)
end

local function store_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
end

local function counter_key(budget, period)
  return P .. 'budget:' .. period .. ':' .. budget
end

local function ends_key(budget, period)
  return P .. 'ends:' .. period .. ':' .. budget
end

local function add_event(kind, now, body)
  return redis.call('XADD', P .. 'events', 'MAXLEN', '~', STREAM_LINES_MAX, '*',
    'kind', kind, 'time', int(now), 'body', body)
end

-- Add an event that people are told of. Its line in the outbox is written in the same step, and
-- waits there until a worker has made a delivery of it for each channel.
local function raise(kind, now, body)
  local id = add_event(kind, now, body)
  redis.call('XADD', P .. 'outbox', '*', 'id', id, 'kind', kind, 'time', int(now), 'body', body)
end

-- Redis keeps a hash of short values as one list, which every access walks through: with the 250
-- totals of a usual policy the 25 increments of a settle take thrice their time, with 500 five times.
-- One value longer than its `hash-max-listpack-value` (64) makes a table of it, for good.
local TABLE_FIELD, TABLE_VALUE = '_', string.rep('0', 65)

local function add_counters(stats_period, counters)
  local key, grew = P .. 'stats:' .. stats_period, false
  for i = 1, #counters, 2 do
    local sum = redis.call('HINCRBY', key, counters[i], counters[i + 1])
    grew = grew or sum == tonumber(counters[i + 1])
  end
  if grew then redis.call('HSETNX', key, TABLE_FIELD, TABLE_VALUE) end
end

-- ── time ────────────────────────────────────────────────────────────────────────────────────────

-- Take over a clock that went far back. What the wrong time gave out, leases and leads, lasts as
-- long after `now` as it would have lasted after `last`; nothing would end it for long otherwise.
local function take_over(last, now)
  local step = int(now - last)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '(' .. int(last), '+inf')) do
    redis.call('ZINCRBY', P .. 'leases', step, id)
  end
  local leads = redis.call('HGETALL', P .. 'leads')
  for i = 1, #leads, 2 do
    if string.sub(leads[i], 1, 6) == 'until:' and tonumber(leads[i + 1]) > last then
      redis.call('HINCRBY', P .. 'leads', leads[i], step)
    end
  end
  add_event('clock_stepped', now, '{"from_ms":' .. int(last) .. ',"to_ms":' .. int(now) .. '}')
end

-- The time of this script, once it is known.
local script_ms

-- The ledger's time: it never goes back, but for a step so large that the time before was wrong.
-- One command reads the latest time and replaces it.
local function now_ms()
  local now = store_ms()
  local last = tonumber(redis.call('SET', P .. 'clock', int(now), 'GET') or now)
  script_ms = now
  if last <= now then return now end
  if last - now <= CLOCK_STEP_MS_MAX then
    redis.call('SET', P .. 'clock', int(last))
    script_ms = last
    return last
  end
  take_over(last, now)
  return now
end

-- The same time for scripts that only read: nothing is remembered.
local function peek_ms()
  local now = store_ms()
  local last = tonumber(redis.call('GET', P .. 'clock') or now)
  if last > now and last - now <= CLOCK_STEP_MS_MAX then return last end
  return now
end

-- ── budgets ─────────────────────────────────────────────────────────────────────────────────────

local limits = {}
local paused_until

-- What a counter's grants add to its limit now, and how often it gained: each time a limit epoch.
local function granted_of(grants)
  if grants == '' then return 0, 0 end
  script_ms = script_ms or peek_ms()
  local granted, raises = 0, 0
  for amount, till in string.gmatch(grants, ':(%-?%d+):(%d+);') do
    amount = tonumber(amount)
    if tonumber(till) > script_ms then granted = granted + amount end
    if amount > 0 then raises = raises + 1 end
  end
  return granted, raises
end

-- Hands a change in a closed period on: see `closing.lua`, which stands after this text.
local amend

-- Read the limits of several rules with one command: commands are what a script's time goes into.
local function read_limits(rules)
  local fields = {'paused_until'}
  for _, rule in ipairs(rules) do
    if not limits[rule] then
      fields[#fields + 1] = 'limit:' .. rule
      fields[#fields + 1] = 'epoch:' .. rule
      fields[#fields + 1] = 'thresholds:' .. rule
      fields[#fields + 1] = 'carry:' .. rule
    end
  end
  if #fields == 1 and paused_until then return end
  local values = redis.call('HMGET', P .. 'policy', unpack(fields))
  paused_until = tonumber(values[1] or 0)
  for i = 2, #fields, 4 do
    limits[string.sub(fields[i], 7)] = {values[i], values[i + 1], values[i + 2], values[i + 3]}
  end
end

-- How long admissions are still paused (ms), or nil where they are not. Needs `read_limits`.
local function pause_left_ms(now)
  if paused_until > now then return paused_until - now end
end

-- The bounds of what a rule hands on: nil where it hands nothing on, ':' where all of it.
local function bounds_of(carry)
  if carry == 'balance' then return ':' end
  if carry and string.find(carry, ':', 1, true) then return carry end
end

-- A budget as it stands, or nil where its rule was never published.
local function read_state(budget, rule, period)
  read_limits({rule})
  local limit = limits[rule]
  if not limit[1] then return nil end
  local counter = redis.call('HMGET', counter_key(budget, period), 'spent', 'held', 'holds',
    'claimed:informational', 'claimed:warning', 'claimed:critical', 'claimed:emergency', 'rule',
    'carry', 'closed', 'grants')
  local carry = tonumber(counter[9] or 0)
  local granted, raises = granted_of(counter[11] or '')
  local state = {
    budget = budget, rule = rule, period = period, published = tonumber(limit[1]), carry = carry,
    granted = granted, grants = counter[11] or '',
    limit = tonumber(limit[1]) + carry + granted, thresholds = limit[3],
    epoch = raises == 0 and limit[2] or int(tonumber(limit[2]) + raises),
    bounds = bounds_of(limit[4]), closed = counter[10],
    spent = tonumber(counter[1] or 0), held = tonumber(counter[2] or 0),
    holds = tonumber(counter[3] or 0), claimed = {}, registered = counter[8],
  }
  for i, level in ipairs(LEVELS) do
    state.claimed[level] = counter[3 + i] == state.epoch
  end
  return state
end

local function reply_state(state)
  local claimed = {}
  for _, level in ipairs(LEVELS) do
    if state.claimed[level] then claimed[#claimed + 1] = level end
  end
  return {state.budget, state.rule, state.period, int(state.published), state.epoch,
    int(state.spent), int(state.held), int(state.holds), table.concat(claimed, ','),
    int(state.carry), int(state.granted)}
end

local function reply_states(wants)
  local states = {}
  for i, want in ipairs(wants) do states[i] = reply_state(want.state) end
  return states
end

-- Make a counter findable for `verify`, before its first figure is written.
local function register(state)
  if state.registered then return end
  state.registered = true
  redis.call('SADD', P .. 'counters', state.period .. ':' .. state.budget)
  redis.call('HSET', counter_key(state.budget, state.period), 'rule', state.rule)
  if redis.call('EXISTS', P .. 'closed:' .. state.period) == 1 then
    state.closed = '1'
    redis.call('HSET', counter_key(state.budget, state.period), 'closed', '1')
  end
end

-- Claim one threshold for this limit epoch and announce it, unless it is claimed already.
local function claim(state, level, percent, now, events)
  if state.claimed[level] then return end
  state.claimed[level] = true
  redis.call('HSET', counter_key(state.budget, state.period), 'claimed:' .. level, state.epoch)
  raise('threshold', now, '{"level":"' .. level .. '","percent":' .. percent
    .. ',"budget":' .. cjson.encode(state.budget) .. ',"rule":' .. cjson.encode(state.rule)
    .. ',"period_id":' .. cjson.encode(state.period) .. ',"limit_epoch":' .. state.epoch
    .. ',"limit_nano_usd":' .. int(state.limit) .. ',"spent_nano_usd":' .. int(state.spent)
    .. ',"time_ms":' .. int(now) .. '}')
  events[#events + 1] = {level, percent, state.budget, state.rule, state.period, state.epoch,
    int(state.limit), int(state.spent), int(now)}
end

-- The least `spent` that claims a level. The published amount is that of the limit without carry
-- and grants; with them the same arithmetic is done in parts, because limit * percent may pass 2^53.
local function reached_at(state, level, percent, amount)
  if state.limit == state.published then return tonumber(amount) end
  percent = tonumber(percent)
  if level == 'emergency' then percent = math.min(percent, 100) end
  local hundreds = math.floor(state.limit / 100)
  local rest = state.limit - hundreds * 100
  return math.max(1, hundreds * percent + math.ceil(rest * percent / 100))
end

local function claim_reached(state, now, events)
  for level, percent, amount in string.gmatch(state.thresholds, '(%a+):(%d+):(%d+)') do
    if state.spent >= reached_at(state, level, percent, amount) then
      claim(state, level, percent, now, events)
    end
  end
end

-- ── admission ───────────────────────────────────────────────────────────────────────────────────

-- Judge a list of wants, {state, target, delta, enforced}: the budget bears `target` in all for
-- this hold, of which `delta` is new. Returns the code of the refusal and the want that refused,
-- and the code that budgets in shadow mode would have refused with. What is `approved` passes.
local function judge(wants)
  local code, refuser, would_refuse
  for _, want in ipairs(wants) do
    local state = want.state
    want.verdict = nil
    if not want.standing and not want.approved then
      if state.spent + want.target > state.limit then
        want.verdict = 'budget_exceeded'
      elseif state.spent + state.held + want.delta > state.limit then
        want.verdict = 'budget_busy'
      end
    end
    want.left = state.limit - state.spent - state.held
    if want.verdict and not want.enforced then
      if would_refuse ~= 'budget_exceeded' then would_refuse = want.verdict end
    elseif want.verdict then
      local graver = code ~= 'budget_exceeded' and want.verdict == 'budget_exceeded'
      if not code or graver or (code == want.verdict and want.left < refuser.left) then
        code, refuser = want.verdict, want
      end
    end
  end
  return code, refuser, would_refuse
end

local function retry_after_ms(state, now)
  local first = redis.call('ZRANGE', ends_key(state.budget, state.period), 0, 0, 'WITHSCORES')
  if not first[2] or tonumber(first[2]) <= now then return RETRY_AFTER_MS_DEFAULT end
  return math.min(RETRY_AFTER_MS_MAX, math.max(RETRY_AFTER_MS_MIN, tonumber(first[2]) - now))
end

local function reply_refused(code, refuser, now, wants, events, problem)
  local retry = ''
  if code == 'budget_busy' then retry = int(retry_after_ms(refuser.state, now)) end
  local position
  for i, want in ipairs(wants) do
    if want == refuser then position = i - 1 end
  end
  return {'refused', code, int(now), int(position), retry, reply_states(wants), events,
    problem or ''}
end

-- Put a want's `delta` aside, under this hold.
local function take(want, hold_id, expected_end, joins, now)
  local state = want.state
  local key = counter_key(state.budget, state.period)
  register(state)
  redis.call('HINCRBY', key, 'held', int(want.delta))
  state.held = state.held + want.delta
  if joins then
    redis.call('HINCRBY', key, 'holds', '1')
    redis.call('ZADD', ends_key(state.budget, state.period), int(expected_end), hold_id)
    state.holds = state.holds + 1
  end
  if state.closed then amend(state.budget, state.period, 0, hold_id, '', now) end
end

-- ── holds ───────────────────────────────────────────────────────────────────────────────────────

-- Shares are kept as JSON: a list of [budget, rule, period, amount, charged], amounts as strings.
local function encode_shares(shares)
  if #shares == 0 then return '[]' end
  return cjson.encode(shares)
end

local function read_hold(hold_id)
  local fields = redis.call('HMGET', P .. 'hold:' .. hold_id, 'state', 'amount', 'time', 'shares',
    'facts', 'decision_id', 'stats_period', 'charged', 'overage', 'expected_end',
    'approval', 'lease')
  if not fields[1] then return nil end
  return {
    id = hold_id, state = fields[1], amount = tonumber(fields[2]), time = tonumber(fields[3]),
    shares = cjson.decode(fields[4]), facts = fields[5], decision_id = fields[6],
    stats_period = fields[7], charged = fields[8] or '0', overage = fields[9] or '0',
    expected_end = tonumber(fields[10]), approval = fields[11],
    lease = tonumber(fields[12]),
  }
end

-- Record what a use of an approval has come to. A hold that was voided has used nothing.
local function note_use(hold, state, cost)
  local uses = P .. 'approval_uses:' .. hold.approval
  if redis.call('HEXISTS', uses, hold.id) == 0 then return end
  if state == 'voided' then
    redis.call('HDEL', uses, hold.id)
  else
    redis.call('HSET', uses, hold.id, int(cost))
  end
end

-- Whether a counter's period is closed; `state` is nil where its rule's limit was lost.
local function is_closed(state, budget, period)
  if state then return state.closed end
  return redis.call('HGET', counter_key(budget, period), 'closed')
end

-- End a hold, or correct one that its lease ended: counters, entry, thresholds, and what is
-- remembered of it. `ending` has kind, state, cost, body, counters, ttl_s, and charge(share).
local function end_hold(hold, ending, now, events)
  local cost = ending.cost
  local overage = math.max(0, cost - hold.amount)
  local charges, states, closed, unreconciled = {}, {}, false, {}
  local rules = {}
  for i, share in ipairs(hold.shares) do rules[i] = share[2] end
  read_limits(rules)
  for i, share in ipairs(hold.shares) do
    local budget, rule, period, held = share[1], share[2], share[3], tonumber(share[4])
    local charge = ending.charge(share)
    local key = counter_key(budget, period)
    local added = int(charge - tonumber(share[5] or 0))
    redis.call('HINCRBY', key, 'spent', added)
    local change
    if ending.kind == 'unreconciled' then
      change = added
    elseif hold.state == 'unreconciled' then
      change = int(-tonumber(share[5] or 0))
    end
    if change then
      redis.call('HINCRBY', key, 'unreconciled', change)
      unreconciled[#unreconciled + 1] = {budget, period, change}
    end
    if hold.state == 'open' then
      redis.call('HINCRBY', key, 'held', int(-held))
      redis.call('HINCRBY', key, 'holds', '-1')
      redis.call('ZREM', ends_key(budget, period), hold.id)
    end
    charges[i] = {budget, period, added}
    share[5] = int(charge)
    overage = math.max(overage, charge - held)
    states[i] = read_state(budget, rule, period)
    closed = closed or is_closed(states[i], budget, period)
  end
  local line = {'kind', ending.kind, 'hold', hold.id,
    'time', int(now), 'cost', int(cost), 'held', int(hold.amount),
    'charges', encode_shares(charges), 'body', ending.body}
  if closed then
    line[#line + 1] = 'addendum'
    line[#line + 1] = '1'
  end
  if #unreconciled > 0 then
    line[#line + 1] = 'unreconciled'
    line[#line + 1] = encode_shares(unreconciled)
  end
  local entry = redis.call('XADD', P .. 'entries', '*', unpack(line))
  for i, charge in ipairs(closed and charges or {}) do
    if is_closed(states[i], charge[1], charge[2]) then
      amend(charge[1], charge[2], charge[3], hold.id, entry, now)
    end
  end
  add_counters(hold.stats_period, ending.counters)
  if overage > 0 then
    add_counters(hold.stats_period, {'overage_count', '1', 'overage_nano', int(overage)})
    add_event('overage', now, '{"hold_id":' .. cjson.encode(hold.id)
      .. ',"decision_id":' .. cjson.encode(hold.decision_id)
      .. ',"cost_nano_usd":' .. int(cost) .. ',"held_nano_usd":' .. int(hold.amount)
      .. ',"overage_nano_usd":' .. int(overage) .. '}')
  end
  if ending.state ~= 'voided' then
    for i = 1, #hold.shares do
      if states[i] then claim_reached(states[i], now, events) end
    end
  end
  if hold.approval then note_use(hold, ending.state, cost) end
  local key = P .. 'hold:' .. hold.id
  redis.call('HSET', key, 'state', ending.state, 'charged', int(cost), 'overage', int(overage),
    'shares', encode_shares(hold.shares))
  redis.call('HDEL', key, 'facts')
  redis.call('EXPIRE', key, ending.ttl_s)
  redis.call('ZREM', P .. 'leases', hold.id)
  return entry, charges, overage, closed
end

-- The definite result of a settle or void: the first call decides, later ones are told so.
-- `ending` lacks kind and ttl_s, which follow from what the hold was.
local function resolve(hold_id, ending, now)
  local hold = read_hold(hold_id)
  if not hold then return {'unknown_hold', '0', '0', '0', int(now), {}} end
  local status = ending.state
  if hold.state == 'settled' or hold.state == 'voided' then
    return {'already_' .. hold.state, hold.charged, int(hold.amount), hold.overage, int(now), {}}
  end
  ending.kind, ending.ttl_s = ending.state, ENDED_TTL_S
  if hold.state == 'unreconciled' then
    status, ending.kind = 'corrected', 'corrected'
    add_counters(hold.stats_period, {'corrected_count', '1', 'corrected_nano', hold.charged})
  end
  local events = {}
  local _, _, overage = end_hold(hold, ending, now, events)
  return {status, int(ending.cost), int(hold.amount), int(overage), int(now), events}
end

-- Charge a hold that the store has lost, from what its owner knows of it. Nil where it may have
-- ended so long ago that it was forgotten: then it must not be charged a second time.
local function recover(hold, ending, now)
  if now >= hold.time + ENDED_TTL_S * 1000 then return nil end
  redis.call('HSET', P .. 'hold:' .. hold.id, 'amount', int(hold.amount), 'time', int(hold.time),
    'decision_id', hold.decision_id, 'stats_period', hold.stats_period)
  for _, share in ipairs(hold.shares) do
    register({
      budget = share[1], rule = share[2], period = share[3],
      registered = redis.call('HEXISTS', counter_key(share[1], share[3]), 'rule') == 1,
    })
  end
  ending.kind, ending.ttl_s = 'recovered', ENDED_TTL_S
  add_counters(hold.stats_period, {'recovered_count', '1', 'recovered_nano', int(ending.cost)})
  local events = {}
  local _, _, overage = end_hold(hold, ending, now, events)
  add_event('recovered', now, '{"hold_id":' .. cjson.encode(hold.id)
    .. ',"decision_id":' .. cjson.encode(hold.decision_id)
    .. ',"charged_nano_usd":' .. int(ending.cost) .. '}')
  return {'recovered', int(ending.cost), int(hold.amount), int(overage), int(now), events}
end
