-- The store's clock in Unix milliseconds.
return int(peek_ms())
