-- How many tickets are open, and the ids of the newest, the newest last. ARGV: 2 how many ids.
local open = redis.call('ZCOUNT', P .. 'approvals_open', '(' .. int(peek_ms()), '+inf')
if ARGV[2] == '0' then return {open, {}} end
return {open, redis.call('ZRANGE', P .. 'approvals', '-' .. ARGV[2], '-1')}
