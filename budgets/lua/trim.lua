-- Record a part of the archive and drop its entries, in one step: a crash leaves both or neither.
-- Who comes second finds that the archive no longer ends where its part begins, and changes
-- nothing. ARGV: 2 the id after which the part begins, 3 its last id, 4 the id after that, 5 its
-- number of entries, 6 its record, 7 the number of its sums, then these (PERIOD:BUDGET, amount), and
-- likewise the sums of what is unreconciled.
local to = redis.call('HGET', P .. 'archive', 'to') or ''
if to ~= ARGV[2] then return 0 end
-- A ledger that lost its data, or another one of the same name, must not be trimmed by this part.
if not redis.call('XRANGE', P .. 'entries', ARGV[3], ARGV[3])[1] then return 0 end
local charges_end = 7 + 2 * tonumber(ARGV[7])
for i = 8, #ARGV, 2 do
  local sums = i <= charges_end and 'archived' or 'archived_unreconciled'
  redis.call('HINCRBY', P .. sums, ARGV[i], ARGV[i + 1])
end
redis.call('HSET', P .. 'archive', 'to', ARGV[3])
redis.call('HINCRBY', P .. 'archive', 'entries', ARGV[5])
redis.call('RPUSH', P .. 'archive_parts', ARGV[6])
redis.call('XTRIM', P .. 'entries', 'MINID', '=', ARGV[4])
return 1
