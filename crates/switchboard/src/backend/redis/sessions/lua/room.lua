-- Rooms of sessions. ARGV: 9 'add', 'remove', 'list' or 'forget', 10 id, 11 room, 12 number or 13 how many at most.
-- The answer: 1 if something has changed, 0 if not, -1 if there are too many; of 'list' each room and the number heard.
local what, id, room = ARGV[9], ARGV[10], ARGV[11]

local function remove(from)
  if redis.call('HDEL', HEARD, from .. ':' .. room) == 0 then
    return 0
  end
  local lines = {}
  for _, other in ipairs(rooms_of(from)) do
    if other ~= room then
      lines[#lines + 1] = other .. '\n'
    end
  end
  if #lines == 0 then
    redis.call('HDEL', ROOMS, from)
  else
    redis.call('HSET', ROOMS, from, table.concat(lines))
  end
  return 1
end

if what == 'list' then
  local answer = {}
  for _, joined in ipairs(load(id) and rooms_of(id) or {}) do
    local heard = redis.call('HGET', HEARD, id .. ':' .. joined)
    if heard then
      answer[#answer + 1] = joined
      answer[#answer + 1] = heard
    end
  end
  return answer
end
if what == 'forget' then
  local removed = 0
  for fleet in pairs(FLEETS) do
    for _, s in ipairs(all_of(fleet)) do
      removed = removed + remove(s.id)
    end
  end
  return removed
end
if what == 'remove' then
  return remove(id)
end
if not load(id) or redis.call('HEXISTS', HEARD, id .. ':' .. room) == 1 then
  return 0
end
local rooms = redis.call('HGET', ROOMS, id) or ''
if select(2, string.gsub(rooms, '\n', '')) >= tonumber(ARGV[13]) then
  return -1
end
redis.call('HSET', ROOMS, id, rooms .. room .. '\n')
redis.call('HSET', HEARD, id .. ':' .. room, ARGV[12])
touch(ROOMS)
touch(HEARD)
keep()
return 1
