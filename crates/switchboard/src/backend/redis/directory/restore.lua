-- Makes a room again that the store has forgotten. KEYS: facts, gone. ARGV: made, version, pattern.
if redis.call('EXISTS', KEYS[2]) == 1 then return false end
local made, version = unpack(redis.call('HMGET', KEYS[1], 'made', 'version'))
if not made then
  made = ARGV[1]
  redis.call('HSET', KEYS[1], 'made', made)
end
-- Whoever made it again meanwhile may not have known the latest pattern.
if (tonumber(version or '0') or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'pattern', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'made', 'version', 'pattern')
