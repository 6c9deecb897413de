-- Hand out raised alerts: those that another worker took and never routed, then new ones.
-- ARGV: 2 the most, 3 how long an alert stays with the worker that took it (ms, Redis's own time).
local key, rows = P .. 'outbox', {}
local function add(lines)
  for _, line in ipairs(lines) do
    if line then
      local fields = {}
      for i = 1, #line[2], 2 do fields[line[2][i]] = line[2][i + 1] end
      rows[#rows + 1] = {line[1], fields.id, fields.kind, fields.time, fields.body}
    end
  end
end
-- All workers read under one name: what matters is when a line was taken, not by whom.
local stale = redis.pcall('XAUTOCLAIM', key, 'workers', 'worker', ARGV[3], '0', 'COUNT', ARGV[2])
if stale.err then
  if not string.find(stale.err, 'NOGROUP') then return redis.error_reply(stale.err) end
  redis.call('XGROUP', 'CREATE', key, 'workers', '0', 'MKSTREAM')
else
  add(stale[2])
end
if #rows < tonumber(ARGV[2]) then
  local fresh = redis.call('XREADGROUP', 'GROUP', 'workers', 'worker',
    'COUNT', int(tonumber(ARGV[2]) - #rows), 'STREAMS', key, '>')
  if fresh then add(fresh[1][2]) end
end
return rows
