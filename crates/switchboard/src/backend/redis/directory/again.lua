-- Notes members again that were forgotten. Whoever another node has noted for itself stays as it is, and gets the place 0.
-- KEYS: facts, members. ARGV: for each its name, the rest of its row, its place.
local made, version, pattern, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'version', 'pattern', 'closing'))
if not made or closing then return false end
local places = {}
local joins = tonumber(redis.call('HGET', KEYS[1], 'joins') or '0') or 0
for i = 1, #ARGV, 3 do
  local name, tail, place = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local row = redis.call('HGET', KEYS[2], name)
  if row and string.match(row, '^%d+\t(%d+\t%d+)\t') ~= string.match(tail, '^(%d+\t%d+)\t') then
    place = '0'
  else
    redis.call('HSET', KEYS[2], name, place .. '\t' .. tail)
    if tonumber(place) > joins then
      joins = tonumber(place)
      redis.call('HSET', KEYS[1], 'joins', place)
    end
  end
  places[#places + 1] = place
end
return {made, version, pattern, places}
