-- What the scripts of leased slices share. A slice is a hold of one budget with a field `lease`: the
-- most of it that its worker can have admitted without having told.
local EXPECTED_MS = 1000
local RECALL_MS = 2000

local function slice_body(id)
  return '{"v":1,"request_id":' .. cjson.encode(id)
    .. ',"decision_id":"","status":"open","marks":["lease"]}'
end

local function recalled_ms(budget, period)
  return tonumber(redis.call('HGET', counter_key(budget, period), 'recalled') or 0)
end

local function reply_slice(id, now, left, state, budget, period)
  return {id, int(now), int(left), state and reply_state(state) or '',
    int(recalled_ms(budget, period))}
end
