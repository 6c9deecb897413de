-- Whether a request may pass the limits of budgets by an approval. This text stands before the
-- scripts that ask. `budgets/approvals/types.py` says what tickets and approvals are.

-- An approval with what was used of it, or nil where there is none.
local function read_approval(id)
  local fields = redis.call('HMGET', P .. 'approval:' .. id, 'state', 'until', 'uses_max',
    'amount_max', 'by', 'key', 'user', 'task_type', 'budgets', 'kind')
  if not fields[1] then return nil end
  local approval = {
    id = id, state = fields[1], until_ms = tonumber(fields[2]), uses_max = tonumber(fields[3]),
    amount_max = tonumber(fields[4]), by = fields[5], key = fields[6], user = fields[7],
    task_type = fields[8], kind = fields[10], budgets = {}, uses = 0, used = 0,
  }
  for _, it in ipairs(cjson.decode(fields[9])) do approval.budgets[it[3] .. ':' .. it[1]] = true end
  if approval.state == 'approved' then
    local uses = redis.call('HGETALL', P .. 'approval_uses:' .. id)
    for i = 1, #uses, 2 do
      approval.uses, approval.used = approval.uses + 1, approval.used + tonumber(uses[i + 1])
    end
  end
  return approval
end

-- Whether an approval admits an amount more.
local function has_left(approval, amount, now)
  return approval.state == 'approved' and approval.until_ms > now
    and approval.uses < approval.uses_max and approval.used + amount <= approval.amount_max
end

-- Whether an approval is for this caller. `who` has key, user, task_type and presented.
local function is_for(approval, who)
  local own = (who.key ~= '' and who.key == approval.key)
    or (who.user ~= '' and who.user == approval.user)
  if approval.by == 'header' then return who.presented and own end
  if approval.by == 'key' then return who.key ~= '' and who.key == approval.key end
  if approval.by == 'user' then return who.user ~= '' and who.user == approval.user end
  return approval.by == 'task_type' and who.task_type == approval.task_type
end

-- Why an approval does not admit an amount more, or nil where it does. A caller that it is not for
-- is told the same as one that made the id up.
local function approval_problem(approval, who, amount, now)
  -- A ticket that asked for a grant is no approval of calls.
  if not approval or approval.kind ~= 'call' then return 'unknown' end
  if approval.state ~= 'approved' then
    local own = who.key ~= '' and who.key == approval.key
    return own and 'not_approved' or 'unknown'
  end
  if not is_for(approval, who) then return 'unknown' end
  if approval.until_ms <= now then return 'over' end
  if not has_left(approval, amount, now) then return 'used_up' end
end

-- Let the wants pass whose budgets an approval names.
local function pass_by(approval, wants)
  for _, want in ipairs(wants) do
    local name = want.state.period .. ':' .. want.state.budget
    want.approved = approval.budgets[name] or false
  end
end
