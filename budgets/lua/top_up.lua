-- Raise an open hold to absolute amounts, all or nothing. Never lowers one.
-- ARGV: 2 hold id, 3 amount, then for each budget the seven fields of `hold`.
local now = now_ms()
local hold = read_hold(ARGV[2])
if not hold or hold.state ~= 'open' then return {'none'} end

local rules = {}
for i = 5, #ARGV, 7 do rules[#rules + 1] = ARGV[i] end
read_limits(rules)
local pause = pause_left_ms(now)
if pause then return {'paused', int(pause)} end

local share_of = {}
for _, share in ipairs(hold.shares) do share_of[share[1]] = share end

local wants = {}
for i = 4, #ARGV, 7 do
  local budget, rule, period, target = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 5])
  local share = share_of[budget]
  local held = 0
  if share then
    rule, period, held = share[2], share[3], tonumber(share[4])
    target = math.max(target, held)
  elseif hold.time < tonumber(ARGV[i + 3]) or hold.time >= tonumber(ARGV[i + 4]) then
    return {'clock', int(hold.time)}
  end
  local state = read_state(budget, rule, period)
  if not state then return {'unpublished', rule} end
  wants[#wants + 1] = {
    state = state, share = share, target = target, delta = target - held,
    standing = share ~= nil and target == held, enforced = ARGV[i + 6] == '1',
  }
end

local code, refuser, would_refuse = judge(wants)
if code and hold.approval then
  -- What was admitted by an approval may grow within it: its own use counts once.
  local approval = read_approval(hold.approval)
  if approval and approval.state == 'approved' and approval.until_ms > now then
    local own = tonumber(redis.call('HGET', P .. 'approval_uses:' .. approval.id, hold.id) or 0)
    if approval.used - own + tonumber(ARGV[3]) <= approval.amount_max then
      pass_by(approval, wants)
      code, refuser, would_refuse = judge(wants)
    end
  end
end
if code then return reply_refused(code, refuser, now, wants, {}) end

for _, want in ipairs(wants) do
  local state = want.state
  take(want, hold.id, hold.expected_end, not want.share, now)
  if want.share then
    want.share[4] = int(want.target)
  else
    hold.shares[#hold.shares + 1] = {state.budget, state.rule, state.period, int(want.target)}
  end
end
if hold.approval then note_use(hold, 'open', math.max(hold.amount, tonumber(ARGV[3]))) end
redis.call('HSET', P .. 'hold:' .. hold.id,
  'amount', int(math.max(hold.amount, tonumber(ARGV[3]))), 'shares', encode_shares(hold.shares))
return {'held', int(now), '0', would_refuse or '', reply_states(wants), {}, hold.approval or ''}
