-- Add a line to the event stream. ARGV: 2 kind, 3 body.
add_event(ARGV[2], now_ms(), ARGV[3])
return 1
