-- Admit a request against all its budgets and set the money aside, or say why not.
-- ARGV: 2 hold id, 3 amount, 4 lease (ms), 5 expected end (ms from now), 6 facts, 7 decision id,
-- 8 decision, 9 the decision's TTL (s), 10 stats period, 11 approval to pass by or '', 12 1 if its id
-- came with the request, 13 the caller's key, 14 user and 15 task type, 16 how long its uses are kept
-- (ms), then for each budget: budget, rule, period id, its start and end (ms), amount, enforced (1 or
-- 0).
local hold_id = ARGV[2]
local now = now_ms()

local standing = read_hold(hold_id)
if standing then
  if standing.state ~= 'open' then return {'reused'} end
  local wants = {}
  for i, share in ipairs(standing.shares) do
    wants[i] = {state = read_state(share[1], share[2], share[3])}
    if not wants[i].state then return {'unpublished', share[2]} end
  end
  return {'held', int(now), '1', '', reply_states(wants), {}, standing.approval or ''}
end

local rules = {}
for i = 18, #ARGV, 7 do rules[#rules + 1] = ARGV[i] end
read_limits(rules)
local pause = pause_left_ms(now)
if pause then return {'paused', int(pause)} end
local wants = {}
for i = 17, #ARGV, 7 do
  if now < tonumber(ARGV[i + 3]) or now >= tonumber(ARGV[i + 4]) then
    return {'clock', int(now)}
  end
  local amount = tonumber(ARGV[i + 5])
  local state = read_state(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  if not state then return {'unpublished', ARGV[i + 1]} end
  wants[#wants + 1] = {
    state = state, target = amount, delta = amount, enforced = ARGV[i + 6] == '1',
  }
end

local code, refuser, would_refuse = judge(wants)
local approval, problem = nil, ''
if code and ARGV[11] ~= '' then
  approval = read_approval(ARGV[11])
  problem = approval_problem(approval, {
    key = ARGV[13], user = ARGV[14], task_type = ARGV[15], presented = ARGV[12] == '1',
  }, tonumber(ARGV[3]), now) or ''
  if problem == '' then
    pass_by(approval, wants)
    code, refuser, would_refuse = judge(wants)
    if code then problem = 'other_budget' end
  end
end
if code then
  local events = {}
  for _, want in ipairs(wants) do
    local percent = string.match(want.state.thresholds, 'emergency:(%d+)')
    if want.enforced and want.verdict == 'budget_exceeded' and percent then
      register(want.state)
      claim(want.state, 'emergency', percent, now, events)
    end
  end
  return reply_refused(code, refuser, now, wants, events, problem)
end

local expected_end = now + tonumber(ARGV[5])
local shares = {}
for i, want in ipairs(wants) do
  local state = want.state
  take(want, hold_id, expected_end, true, now)
  shares[i] = {state.budget, state.rule, state.period, int(want.target)}
end
redis.call('HSET', P .. 'hold:' .. hold_id, 'state', 'open', 'amount', ARGV[3], 'time', int(now),
  'expected_end', int(expected_end), 'shares', encode_shares(shares), 'facts', ARGV[6],
  'decision_id', ARGV[7], 'stats_period', ARGV[10])
if approval then
  redis.call('HSET', P .. 'hold:' .. hold_id, 'approval', approval.id)
  local uses = P .. 'approval_uses:' .. approval.id
  redis.call('HSET', uses, hold_id, ARGV[3])
  redis.call('PEXPIREAT', uses, int(approval.until_ms + tonumber(ARGV[16])))
end
redis.call('ZADD', P .. 'leases', int(now + tonumber(ARGV[4])), hold_id)
redis.call('SET', P .. 'decision:' .. ARGV[7], ARGV[8], 'EX', ARGV[9])
return {'held', int(now), '0', would_refuse or '', reply_states(wants), {}, approval and approval.id or ''}
