-- Keep a request, if its category has room.
-- ARGV: 2 id, 3 meta, 4 category, 5 priority (0 to 9), 6 expires in (ms), 7 attempts at most,
-- 8 answer kept (ms), 9 bytes, 10 estimate, 11 sealed body, 12 reason, 13 requests at most,
-- 14 bytes at most, 15 kept (ms), 16 body slack (ms), 17 dead at most.
local id, category = ARGV[2], ARGV[4]
local now = now_ms()
local key = Q .. 'item:' .. id
if redis.call('EXISTS', key) == 1 then return {'kept', int(now)} end
local bytes, estimate = tonumber(ARGV[9]), tonumber(ARGV[10])
local used = redis.call('HMGET', Q .. 'sizes', 'requests:' .. category, 'bytes:' .. category)
if tonumber(used[1] or 0) + 1 > tonumber(ARGV[13]) then return {'full', 'requests'} end
if tonumber(used[2] or 0) + bytes > tonumber(ARGV[14]) then return {'full', 'bytes'} end
local arrival = redis.call('INCRBY', Q .. 'arrived', '1')
local order = int((9 - tonumber(ARGV[5])) * 100000000000000 + arrival)
local expires = now + tonumber(ARGV[6])
redis.call('HSET', key, 'meta', ARGV[3], 'category', category, 'bytes', int(bytes),
  'estimate', int(estimate), 'order', order, 'queued', int(now), 'expires', int(expires),
  'attempts', '0', 'attempts_max', ARGV[7], 'run', '1', 'runner', '', 'reason', ARGV[12],
  'not_before', '0', 'status', '0', 'answer_until', '0', 'answer_kept', ARGV[8])
redis.call('SET', Q .. 'body:' .. id, ARGV[11], 'PX', int(tonumber(ARGV[6]) + tonumber(ARGV[16])))
place(id, {category = category, bytes = bytes, estimate = estimate, order = order, queued = now,
  expires = expires}, 'waiting', now, 0, tonumber(ARGV[15]), tonumber(ARGV[17]))
return {'kept', int(now)}
