-- Bring a request from one of some states to another, or change nothing.
-- ARGV: 2 id, 3 the states it may be in (`,waiting,dead,`), 4 the runner that must have it ('' for
-- any), 5 the new state, 6 ms (the lease of a run, or the pause of one that waits), 7 reason,
-- 8 flags (f: the attempt failed, n: the next run needs a new id, r: attempts start over, b: the
-- body must be there, l: the lease must have ended, i: a worker died in the send), 9 the new runner, 10 sealed answer, 11 status,
-- 12 kept (ms), 13 dead at most. Answers the new state, or '' where nothing was done.
local id, to, reason, flags = ARGV[2], ARGV[5], ARGV[7], ARGV[8]
local now = now_ms()
local item = read_item(id)
if not item or not string.find(ARGV[3], ',' .. item.state .. ',', 1, true) then return '' end
if ARGV[4] ~= '' and item.runner ~= ARGV[4] then return '' end
local function has(flag) return string.find(flags, flag, 1, true) end
if has('b') and redis.call('EXISTS', Q .. 'body:' .. id) == 0 then return '' end
if (has('b') or item.state == 'waiting' and to == 'running') and item.expires <= now then
  return ''
end
if has('l') then
  local lease = redis.call('ZSCORE', Q .. 'running', id)
  if not lease or tonumber(lease) > now then return '' end
end
local key = Q .. 'item:' .. id
if has('f') then
  redis.call('HSET', key, 'attempts', int(item.attempts + 1))
  if item.attempts + 1 >= item.attempts_max then to = 'dead' end
end
if has('r') then redis.call('HSET', key, 'attempts', '0') end
if has('n') then
  redis.call('HSET', key, 'run', int(item.run + 1), 'lost', '0')
elseif has('i') then
  redis.call('HINCRBY', key, 'lost', '1')
end
local until_ms = now + tonumber(ARGV[6])
redis.call('HSET', key, 'runner', ARGV[9],
  'not_before', to == 'waiting' and ARGV[6] ~= '0' and int(until_ms) or '0')
if reason ~= '' then redis.call('HSET', key, 'reason', reason) end
place(id, item, to, now, until_ms, tonumber(ARGV[12]), tonumber(ARGV[13]))
if to == 'done' then
  redis.call('HSET', key, 'status', ARGV[11], 'reason', '',
    'answer_until', int(now + item.answer_kept))
  redis.call('EXPIRE', key, seconds(math.max(tonumber(ARGV[12]), item.answer_kept)))
  redis.call('SET', Q .. 'answer:' .. id, ARGV[10], 'PX', int(item.answer_kept))
end
if to == 'done' or to == 'cancelled' then redis.call('DEL', Q .. 'body:' .. id) end
if to == 'dead' then tell_of_death(id, item, reason, now) end
return to
