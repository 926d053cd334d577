-- A room's name is taken. KEYS: rooms, closing, rooms sorted. ARGV: name, most rooms.
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 then return 'known' end
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'closing' end
if redis.call('SCARD', KEYS[1]) + redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[2]) then return 'full' end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return 'new'
