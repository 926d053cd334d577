-- Names of rooms in their order. KEYS: rooms, rooms sorted. ARGV: where to begin, how many.
-- Versions that do not know the sorted list keep the first one alone: it is sorted again when they differ.
local names
for attempt = 1, 2 do
  local is_same = redis.call('ZCARD', KEYS[2]) == redis.call('SCARD', KEYS[1])
  if is_same then
    names = redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
    for _, name in ipairs(names) do
      is_same = is_same and redis.call('SISMEMBER', KEYS[1], name) == 1
    end
  end
  if is_same then return names end
  redis.call('DEL', KEYS[2])
  for _, name in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('ZADD', KEYS[2], 0, name) end
end
return redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], '+', 'LIMIT', 0, ARGV[2])
