-- Raise an alert that nothing claims. ARGV: 2 kind, 3 body.
raise(ARGV[2], now_ms(), ARGV[3])
return 1
