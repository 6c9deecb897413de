-- Read one request. ARGV: 2 id. Answers its fields.
return redis.call('HGETALL', Q .. 'item:' .. ARGV[2])
