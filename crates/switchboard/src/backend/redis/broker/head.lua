-- Where a room stands. KEYS: sequence. ARGV: generation, now, number that is known, whether a new epoch is to begin ('1').
local room = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'generation', 'mark')
if not room[1] then return {'none'} end
local generation = tonumber(ARGV[1])
if tonumber(room[3]) > generation then return {'stale'} end
if tonumber(room[3]) < generation or ARGV[4] == '1' then
  -- What the store had confirmed may be lost. What nodes have heard is not numbered again.
  room[1] = string.format('%.0f', math.max(tonumber(room[1]) + 1, tonumber(ARGV[2])))
  room[2] = string.format('%.0f', math.max(tonumber(room[2]), tonumber(ARGV[3])))
  redis.call('HSET', KEYS[1], 'epoch', room[1], 'last', room[2], 'generation', ARGV[1])
end
return {'ok', room[1], room[2], room[4] or ''}
