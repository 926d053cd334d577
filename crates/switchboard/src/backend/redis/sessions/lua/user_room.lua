-- A user joins a room. KEYS: 1 the user's rooms, by rising numbers. ARGV: 1 the room, 2 how many there may be. The answer: 1, or 0 if
-- it was known, or -1 if there are too many.
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return -1
end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', (tonumber(last) or 0) + 1), ARGV[1])
return 1
