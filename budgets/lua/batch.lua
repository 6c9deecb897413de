-- Several ends and reports of requests in one step, in their order. Where Redis does not know this
-- script, none of them is done; a script for each would let those behind an unknown one go first.
-- What one of them raises ends none of the others; the first one's error is that of the whole, so
-- that a client sees what it acts upon, such as a master that has become a replica.
-- ARGV: 2 on, for each: name, number of its arguments, its arguments.
local parts = {
  settle = settle, void = void, lease_adopt = lease_adopt, lease_return = lease_return,
}
local replies = {}
local at = 2
while at <= #ARGV do
  local count = tonumber(ARGV[at + 1])
  local args = {ARGV[1]}
  for i = 1, count do args[i + 1] = ARGV[at + 1 + i] end
  local done, reply = pcall(parts[ARGV[at]], args)
  if not done then
    if #replies == 0 then
      if type(reply) == 'table' then return reply end
      return redis.error_reply('ERR ' .. tostring(reply))
    end
    reply = {'failed', type(reply) == 'table' and reply.err or tostring(reply)}
  end
  replies[#replies + 1] = reply
  at = at + 2 + count
end
return replies
