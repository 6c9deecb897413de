-- Pause admissions for a while, or end the pause. ARGV: 2 how long (ms); 0 ends it.
redis.call('HSET', P .. 'policy', 'paused_until', int(now_ms() + tonumber(ARGV[2])))
return 1
