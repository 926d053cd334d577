-- Removes rows that have not changed since they were looked at. KEYS: members. ARGV: for each its name and what is in it.
local struck = {}
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
    struck[#struck + 1] = ARGV[i]
  end
end
return struck
