-- Release a hold without a charge, once, leaving an entry of cost 0.
-- ARGV: 2 hold id, 3 body, then the counters (name, increment).
local counters = {}
for i = 4, #ARGV do counters[#counters + 1] = ARGV[i] end
return resolve(ARGV[2], {
  state = 'voided', cost = 0, body = ARGV[3], counters = counters,
  charge = function() return 0 end,
}, now_ms())
