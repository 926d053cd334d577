-- Removes the members of a dead node, a part of the room at a time, and says who they were. Asked again under the same token it says
-- the same again. KEYS: members, the latest answer. ARGV: owner, cursor, token.
local kept = redis.call('GET', KEYS[2])
if kept then
  kept = cmsgpack.unpack(kept)
  if kept[1] == ARGV[3] then return {kept[2], kept[3]} end
end
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', 500)
local gone = {}
for i = 1, #page[2], 2 do
  local name, row = page[2][i], page[2][i + 1]
  if string.match(row, '^%d+\t(%d+\t%d+)\t') == ARGV[1] then
    redis.call('HDEL', KEYS[1], name)
    gone[#gone + 1] = name
    gone[#gone + 1] = row
  end
end
if #gone > 0 then redis.call('SET', KEYS[2], cmsgpack.pack({ARGV[3], page[1], gone}), 'PX', 60000) end
return {page[1], gone}
