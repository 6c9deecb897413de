-- Take a finding for the new normal: it is over at once, and the next look begins its series anew.
-- ARGV: 2 the finding's id, 3 a text that says who and when. Returns the finding's JSON, or ''.
local D = P .. 'drift:'
local found = redis.call('HGET', D .. 'findings', ARGV[2])
if not found then return '' end
redis.call('HDEL', D .. 'findings', ARGV[2])
redis.call('HDEL', D .. 'scores', ARGV[2])
redis.call('HSET', D .. 'accepted', ARGV[2], ARGV[3])
return found
