-- Keep what is known of a task type's gate, unless somebody else has written it since it was read;
-- with a body, raise the alarm in the same step.
-- ARGV: 2 task type, 3 what it was (empty: nothing), 4 what it is, 5 body (empty: no alarm).
local key = P .. 'gate_watch'
if (redis.call('HGET', key, ARGV[2]) or '') ~= ARGV[3] then return 0 end
redis.call('HSET', key, ARGV[2], ARGV[4])
if ARGV[5] ~= '' then raise('escalation_shift', now_ms(), ARGV[5]) end
return 1
