-- What is known of a room. KEYS: facts, members.
local made, version, pattern, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'version', 'pattern', 'closing'))
if not made or closing then return false end
return {made, version, pattern, redis.call('HLEN', KEYS[2])}
