-- What the queue's scripts share; stands before each of them. See `queue/items.py`. Keys:
--   queue:item:ID    hash    state, meta (JSON, never changed), category, bytes, estimate, order,
--                            queued, expires, attempts, attempts_max, run, lost, runner, reason,
--                            not_before, changed, status, answer_until, answer_kept; a TTL beyond
--                            its expiry, then one from its end
--   queue:body:ID    string  the sealed body, with a TTL; queue:answer:ID the sealed answer
--   queue:waiting    zset    by order: (9 - priority) * 10^14 + arrival
--   queue:running    zset    by the end of the runner's lease
--   queue:dead       zset    by when it died; queue:ended those that are done or cancelled
--   queue:arrivals   zset    those that wait or run by when they were queued
--   queue:expiries   zset    those that wait by their expiry
--   queue:sizes      hash    requests:CATEGORY, bytes:CATEGORY, estimate:CATEGORY of what waits or
--                            runs
--   queue:arrived    string  counts arrivals
local Q = P .. 'queue:'
local LIVE = {waiting = true, running = true}

-- A length of time for EXPIRE, rounded up.
local function seconds(ms)
  return int(math.ceil(ms / 1000))
end

local function resize(category, sign, bytes, estimate)
  redis.call('HINCRBY', Q .. 'sizes', 'requests:' .. category, int(sign))
  redis.call('HINCRBY', Q .. 'sizes', 'bytes:' .. category, int(sign * bytes))
  redis.call('HINCRBY', Q .. 'sizes', 'estimate:' .. category, int(sign * estimate))
end

-- Put a request into a state: its place in the indexes, what it takes of its category's room, and
-- how long it is remembered. `item` has state (the one before, nil for a new one), category, bytes,
-- estimate, order, queued, expires. `until_ms` is the end of the lease where it runs.
local function place(id, item, state, now, until_ms, kept_ms, dead_max)
  local key = Q .. 'item:' .. id
  for _, index in ipairs({'waiting', 'running', 'dead', 'ended', 'expiries'}) do
    redis.call('ZREM', Q .. index, id)
  end
  if LIVE[state] and not LIVE[item.state] then
    resize(item.category, 1, item.bytes, item.estimate)
    redis.call('ZADD', Q .. 'arrivals', int(item.queued), id)
  elseif LIVE[item.state] and not LIVE[state] then
    resize(item.category, -1, item.bytes, item.estimate)
    redis.call('ZREM', Q .. 'arrivals', id)
  end
  if state == 'waiting' then
    redis.call('ZADD', Q .. 'waiting', item.order, id)
    redis.call('ZADD', Q .. 'expiries', int(item.expires), id)
  elseif state == 'running' then
    redis.call('ZADD', Q .. 'running', int(until_ms), id)
  elseif state == 'dead' then
    redis.call('ZADD', Q .. 'dead', int(now), id)
    for _, oldest in ipairs(redis.call('ZRANGE', Q .. 'dead', '0', int(-dead_max - 1))) do
      redis.call('ZREM', Q .. 'dead', oldest)
    end
    redis.call('ZREMRANGEBYSCORE', Q .. 'dead', '-inf', int(now - kept_ms))
  else
    redis.call('ZADD', Q .. 'ended', int(now), id)
    redis.call('ZREMRANGEBYSCORE', Q .. 'ended', '-inf', int(now - kept_ms))
  end
  redis.call('HSET', key, 'state', state, 'changed', int(now))
  local ttl = kept_ms
  if LIVE[state] then ttl = ttl + math.max(0, item.expires - now) end
  redis.call('EXPIRE', key, seconds(ttl))
end

local function read_item(id)
  local fields = redis.call('HMGET', Q .. 'item:' .. id, 'state', 'category', 'bytes', 'estimate',
    'order', 'queued', 'expires', 'attempts', 'attempts_max', 'run', 'runner', 'answer_kept')
  if not fields[1] then return nil end
  return {
    state = fields[1], category = fields[2], bytes = tonumber(fields[3]),
    estimate = tonumber(fields[4]), order = fields[5], queued = tonumber(fields[6]),
    expires = tonumber(fields[7]), attempts = tonumber(fields[8]),
    attempts_max = tonumber(fields[9]), run = tonumber(fields[10]), runner = fields[11],
    answer_kept = tonumber(fields[12]),
  }
end

local function tell_of_death(id, item, reason, now)
  add_event('queue_dead', now, '{"queue_id":' .. cjson.encode(id) .. ',"category":'
    .. cjson.encode(item.category) .. ',"reason":' .. cjson.encode(reason) .. '}')
end
