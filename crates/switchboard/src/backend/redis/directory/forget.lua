-- Forgets a room, and remembers for a while that there was one. KEYS: facts, members, gone. ARGV: now, milliseconds.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or '0') or 0
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SET', KEYS[3], string.format('%.0f', math.max(tonumber(ARGV[1]), version)), 'PX', ARGV[2])
return 1
