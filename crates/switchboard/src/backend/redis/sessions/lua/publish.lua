-- An event for shards of a fleet. ARGV: 9 key of the publication ('-': none), 10 how long keys are remembered and 11 how many,
-- 12 development, 13 'shard', 'guild' or 'all', 14 which, 15 how many shards there are as configured ('-': not), 16 the event.
-- The answer: nothing; or whether it was published before, and "session:shard:number:home" of each log, separated by spaces.
local key, memory, most, fleet, item = ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12], ARGV[16]
if key ~= '-' then
  forget_known(memory)
  local known = redis.call('HGET', KNOWN, key)
  if known then
    return {'1', string.match(known, '^%d+ %d+ (.*)$') or ''}
  end
end

local to
if ARGV[13] == 'all' then
  to = alive_of(fleet)
else
  local shard = tonumber(ARGV[14])
  if ARGV[13] == 'guild' then
    local total = tonumber(ARGV[15]) or fleet_total(fleet)
    shard = total > 0 and math.fmod(shard, total) or nil
  end
  to = {shard and alive_at(fleet, shard)}
end
if #to == 0 then
  keep()
  return false
end

local deliveries = {}
for place, s in ipairs(to) do
  deliveries[place] = table.concat({s.id, text(s.shard), text(push(s, item)), s.home}, ':')
end
local told = table.concat(deliveries, ' ')
if key ~= '-' then
  redis.call('HSET', KNOWN, key, text(NOW) .. ' ' .. #to .. ' ' .. told)
  redis.call('RPUSH', ORDER, key)
  add_to('weight', #to)
  while sum('weight') > most and redis.call('EXISTS', ORDER) == 1 do
    forget_oldest_known()
  end
  touch(KNOWN)
  touch(ORDER)
end
keep()
return {'0', told}
