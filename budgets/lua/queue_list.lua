-- Read requests of an index. ARGV: 2 index, 3 how many at most, 4 `+` for rising scores or `-`,
-- 5 the highest score (`+inf` or a number; `now` for the ledger's time).
-- Answers the time, and for each its id and its fields.
local now = peek_ms()
local most = ARGV[5] == 'now' and int(now) or ARGV[5]
local ids
if ARGV[4] == '+' then
  ids = redis.call('ZRANGEBYSCORE', Q .. ARGV[2], '-inf', most, 'LIMIT', '0', ARGV[3])
else
  ids = redis.call('ZRANGE', Q .. ARGV[2], most, '-inf', 'BYSCORE', 'REV', 'LIMIT', '0', ARGV[3])
end
local rows = {}
for _, id in ipairs(ids) do
  local fields = redis.call('HGETALL', Q .. 'item:' .. id)
  if #fields > 0 then rows[#rows + 1] = {id, fields} end
end
return {int(now), rows}
