-- Moves keys aside that have another type than they should. KEYS: the keys, then the names that they get. ARGV: 1
-- for how many milliseconds they are kept; then of each key its type ('': not known, so it stays), and '1' if the
-- other keys mean nothing without it: then these are deleted. The answer: the keys that were moved.
local count, moved, are_others_lost = #KEYS / 2, {}, false
for at = 1, count do
  local found, wanted = redis.call('TYPE', KEYS[at])['ok'], ARGV[2 * at]
  if wanted ~= '' and found ~= 'none' and found ~= wanted then
    redis.call('RENAME', KEYS[at], KEYS[count + at])
    redis.call('PEXPIRE', KEYS[count + at], ARGV[1])
    moved[#moved + 1] = KEYS[at]
    are_others_lost = are_others_lost or ARGV[2 * at + 1] == '1'
  end
end
if are_others_lost then
  for at = 1, count do
    redis.call('DEL', KEYS[at])
  end
end
return moved
