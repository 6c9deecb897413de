-- Read how much is kept. Answers the time, the sizes, how many wait, run and are dead, and when the
-- oldest that waits or runs was queued ('' for none).
local oldest = redis.call('ZRANGE', Q .. 'arrivals', '0', '0', 'WITHSCORES')
return {int(peek_ms()), redis.call('HGETALL', Q .. 'sizes'), redis.call('ZCARD', Q .. 'waiting'),
  redis.call('ZCARD', Q .. 'running'), redis.call('ZCARD', Q .. 'dead'), oldest[2] or ''}
