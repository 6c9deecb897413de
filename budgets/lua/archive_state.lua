-- How far the archive reaches, and its parts.
local archive = redis.call('HMGET', P .. 'archive', 'to', 'entries')
return {archive[1] or '', archive[2] or '0', redis.call('LRANGE', P .. 'archive_parts', 0, -1)}
