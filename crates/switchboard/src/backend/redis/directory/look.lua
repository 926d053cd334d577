-- Looks at a part of a room's members. KEYS: facts, members, gone. ARGV: cursor, owner that asks, owners that live.
local alive = {}
for i = 2, #ARGV do alive[ARGV[i]] = true end
local page = redis.call('HSCAN', KEYS[2], ARGV[1], 'COUNT', 500)
local own, odd = {}, {}
for i = 1, #page[2], 2 do
  local name, row = page[2][i], page[2][i + 1]
  local place, owner = string.match(row, '^(%d+)\t(%d+\t%d+)\t')
  if owner == ARGV[2] then
    own[#own + 1] = name
    own[#own + 1] = place
  elseif not owner or not alive[owner] then
    odd[#odd + 1] = name
    odd[#odd + 1] = row
  end
end
local made, version, pattern, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'version', 'pattern', 'closing'))
return {page[1], own, odd, redis.call('EXISTS', KEYS[3]), made, version, pattern, closing}
