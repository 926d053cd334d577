-- Has a room's name on one list and on no other, or on none. KEYS: rooms, closing, rooms sorted. ARGV: name, number
-- of the list or 0.
local changed = 0
for i = 1, 2 do
  local command = i == tonumber(ARGV[2]) and 'SADD' or 'SREM'
  if redis.call(command, KEYS[i], ARGV[1]) == 1 then changed = 1 end
end
if ARGV[2] == '1' then redis.call('ZADD', KEYS[3], 0, ARGV[1]) else redis.call('ZREM', KEYS[3], ARGV[1]) end
return changed
