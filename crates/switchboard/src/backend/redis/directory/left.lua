-- Reads a part of the members that a dead node has in a room. KEYS: members. ARGV: owner, cursor.
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 500)
local left = {}
for i = 1, #page[2], 2 do
  local name, row = page[2][i], page[2][i + 1]
  if string.match(row, '^%d+\t(%d+\t%d+)\t') == ARGV[1] then
    left[#left + 1] = name
    left[#left + 1] = row
  end
end
return {page[1], left}
