-- Read a sealed text. ARGV: 2 `body` or `answer`, 3 id, 4 body slack (ms). Answers '' for none.
local now = peek_ms()
local fields = redis.call('HMGET', Q .. 'item:' .. ARGV[3], 'expires', 'answer_until')
if not fields[1] then return '' end
local until_ms = tonumber(fields[2])
if ARGV[2] == 'body' then until_ms = tonumber(fields[1]) + tonumber(ARGV[4]) end
if until_ms <= now then return '' end
return redis.call('GET', Q .. ARGV[2] .. ':' .. ARGV[3]) or ''
