-- Find an approval that matches a request by itself. ARGV: 2 key, 3 user, 4 task type, 5 amount,
-- 6 how many are looked through, then for each budget that is in the way: budget, period id.
local now = peek_ms()
local who = {key = ARGV[2], user = ARGV[3], task_type = ARGV[4], presented = false}
local ids = redis.call('ZRANGEBYSCORE', P .. 'approvals_given', '(' .. int(now), '+inf', 'LIMIT',
  '0', ARGV[6])
for _, id in ipairs(ids) do
  local approval = read_approval(id)
  if approval and not approval_problem(approval, who, tonumber(ARGV[5]), now) then
    local covers = true
    for i = 7, #ARGV, 2 do
      covers = covers and (approval.budgets[ARGV[i + 1] .. ':' .. ARGV[i]] or false)
    end
    if covers then return id end
  end
end
return ''
