-- Who is in a room. KEYS: facts, members.
local made, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'closing'))
if not made or closing then return false end
local rows = redis.call('HGETALL', KEYS[2])
-- As a list under every version of the protocol.
return rows
