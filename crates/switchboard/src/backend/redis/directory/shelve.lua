-- Has a room's name on one list and on no other, or on none. KEYS: rooms, closing. ARGV: name, number of the list or 0.
local changed = 0
for i, list in ipairs(KEYS) do
  local command = i == tonumber(ARGV[2]) and 'SADD' or 'SREM'
  if redis.call(command, list, ARGV[1]) == 1 then changed = 1 end
end
return changed
