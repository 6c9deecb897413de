-- The store's clock in Unix milliseconds.
return int(now_ms())
