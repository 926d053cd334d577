-- A node stops as planned: what it leaves is put in order by others. KEYS: list, seen, dead, graves. ARGV: slot, incarnation.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry and string.sub(entry, 1, #ARGV[2] + 1) == ARGV[2] .. '\t' then
  redis.call('HSET', KEYS[3], ARGV[2], now)
  redis.call('HSET', KEYS[4], ARGV[1], entry)
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1
