-- Makes a room. KEYS: facts, gone. ARGV: now, pattern.
if redis.call('HEXISTS', KEYS[1], 'made') == 1 then return 0 end
local gone = tonumber(redis.call('GET', KEYS[2]) or '0') or 0
local made = string.format('%.0f', math.max(tonumber(ARGV[1]), gone + 1))
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'made', made, 'version', made, 'pattern', ARGV[2])
return 1
