-- Charge holds whose lease has ended with what they hold: nobody knows what they cost.
-- Atomic and idempotent, so that any number of sweepers may run it at once.
-- ARGV: 2 the most holds to end.
local now = now_ms()
local ids = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', int(now), 'LIMIT', '0', ARGV[2])
local entries = {}
for _, id in ipairs(ids) do
  local hold = read_hold(id)
  if not hold or hold.state ~= 'open' then
    -- Nothing can leave this behind but a store that lost keys; the lease must not block others.
    redis.call('ZREM', P .. 'leases', id)
    add_event('lost_hold', now, '{"hold_id":' .. cjson.encode(id) .. '}')
  else
    local body = hold.facts or ''
    -- Of a leased slice, what its worker may have admitted and not told; the rest goes back.
    local cost = math.min(hold.amount, hold.lease or hold.amount)
    local entry, charges, _, closed = end_hold(hold, {
      kind = 'unreconciled', state = 'unreconciled', cost = cost, body = body,
      counters = {'unreconciled_count', '1', 'unreconciled_nano', int(cost)},
      ttl_s = UNRECONCILED_TTL_S,
      charge = function(share) return hold.lease and cost or tonumber(share[4]) end,
    }, now, {})
    add_event('unreconciled', now, '{"hold_id":' .. cjson.encode(id)
      .. ',"decision_id":' .. cjson.encode(hold.decision_id)
      .. ',"charged_nano_usd":' .. int(cost) .. '}')
    entries[#entries + 1] = {entry, 'unreconciled', id, int(now), int(cost),
      int(hold.amount), encode_shares(charges), body, closed and '1' or ''}
  end
end
return {#ids, entries}
