-- Read who leads: role, owner and the end of the lease, for each lease that has not ended.
local now = peek_ms()
local fields, untils, rows = redis.call('HGETALL', P .. 'leads'), {}, {}
for i = 1, #fields, 2 do untils[fields[i]] = fields[i + 1] end
for i = 1, #fields, 2 do
  local role = string.match(fields[i], '^owner:(.*)$')
  local lease_end = role and untils['until:' .. role]
  if lease_end and tonumber(lease_end) > now then
    rows[#rows + 1] = {role, fields[i + 1], lease_end}
  end
end
return rows
