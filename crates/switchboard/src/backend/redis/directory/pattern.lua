-- Replaces a room's pattern. KEYS: facts. ARGV: now, pattern.
local made, version, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'version', 'closing'))
if not made or closing then return false end
version = string.format('%.0f', math.max(tonumber(ARGV[1]), (tonumber(version or '0') or 0) + 1))
redis.call('HSET', KEYS[1], 'version', version, 'pattern', ARGV[2])
return {made, version, ARGV[2]}
