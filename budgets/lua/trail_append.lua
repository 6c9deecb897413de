-- Add a line to the audit trail, unless it was noted already.
-- ARGV: 2 actor, 3 action, 4 detail (JSON), 5 a mark and 6 its value: where the mark has that value
-- already, somebody else has noted the same, and nothing is done. An empty mark is none.
-- Replies the sequence number and the digest; nothing where it was noted.
local mark, value = ARGV[5], ARGV[6]
if mark ~= '' then
  if redis.call('HGET', P .. 'trail_marks', mark) == value then return {} end
  redis.call('HSET', P .. 'trail_marks', mark, value)
end
local seq, digest = append_trail(ARGV[2], ARGV[3], ARGV[4], now_ms())
return {seq, digest}
