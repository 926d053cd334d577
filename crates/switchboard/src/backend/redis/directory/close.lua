-- Begins to destroy a room. KEYS: facts. ARGV: who does.
local made, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'closing'))
if not made or closing then return 0 end
redis.call('HSET', KEYS[1], 'closing', ARGV[1])
return 1
