-- A session begins, in place of others.
--
-- ARGV: 9 id, 10 hash, 11 development, 12 shard, 13 total as declared and 14 as configured ('-': neither), 15 flags, 16 how many may
-- begin a day and 17 at once (0: any number), 18 whether it yields, 19 the session that the connection carries ('-': none) and
-- 20 its generation, 21 the connection, 22 the node's name, 23 how long a day is and 24 what is at once.
-- The answer: what is wrong, and in how many milliseconds it may be tried again; or 'ok', the row, the fleet's total and who ended.
local id, hash, fleet, shard = ARGV[9], ARGV[10], ARGV[11], tonumber(ARGV[12])
local declared, fixed, flags = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15]
local most_starts, most_at_once, yields = tonumber(ARGV[16]), tonumber(ARGV[17]), ARGV[18] == '1'
local connection, node, DAY, AT_ONCE = ARGV[21], ARGV[22], tonumber(ARGV[23]), tonumber(ARGV[24])

if redis.call('HEXISTS', ROWS, id) == 1 or redis.call('HEXISTS', HASHES, hash) == 1 then
  return {'exists'}
end

-- Shard 0 says how many there are; the others have been told.
local master = shard ~= 0 and alive_at(fleet, 0) or nil
local of_fleet = fixed or (master and master.total)
if declared and of_fleet and declared ~= of_fleet then
  return {'range'}
end
local total = declared or of_fleet
if total and shard >= total then
  return {'range'}
end
if shard ~= 0 and not master then
  return {'master'}
end

local began, count, latest = sum('began'), sum('starts'), {}
if count == 0 or NOW - began >= DAY then
  began, count = NOW, 0
end
for at in string.gmatch(redis.call('HGET', SUMS, 'latest') or '', '%d+') do
  latest[#latest + 1] = tonumber(at)
end
if most_starts > 0 and count >= most_starts then
  return {'day', text(math.max(0, began + DAY - NOW))}
end
local nth = most_at_once > 0 and latest[#latest - most_at_once + 1]
if nth and nth + AT_ONCE > NOW then
  return {'once', text(nth + AT_ONCE - NOW)}
end

local own = ARGV[19] ~= '-' and load(ARGV[19]) or nil
if not is_carried(own, ARGV[20]) then
  own = nil
end
local taken = alive_at(fleet, shard)
if yields and taken and taken.since == nil and not (own and own.id == taken.id) then
  return {'taken'}
end

local ended, others = {}, all_of(fleet)
local counted_before = counted(alive_of(fleet))
if own then
  ended[#ended + 1] = finish(own, 'replaced')
end
for _, s in ipairs(others) do
  local why
  if not is_there(s) then
    -- Others of the fleet may wait for the sweep.
    why = s.shard == shard and 'expired'
  elseif s.shard == shard then
    why = 'replaced'
  elseif shard == 0 and total and (s.shard >= total or (s.total or counted_before) ~= total) then
    why = 'resharded'
  end
  if own and s.id == own.id then
    why = nil
  elseif why then
    ended[#ended + 1] = finish(s, why)
  elseif shard == 0 and total and not s.total then
    -- Those who were told nothing have counted right.
    s.total = total
    save(s)
  end
end
-- Whatever else may be in the slot is no session of ours.
redis.call('ZREMRANGEBYSCORE', FLEETS[fleet], text(shard), text(shard))

latest[#latest + 1] = NOW
while #latest > most_at_once do
  table.remove(latest, 1)
end
for place, at in ipairs(latest) do
  latest[place] = text(at)
end
redis.call('HSET', SUMS, 'began', text(began), 'starts', text(count + 1), 'latest', table.concat(latest, ' '))

local s = {id = id, hash = hash, fleet = fleet, shard = shard, total = total, flags = flags, created = NOW, generation = 1,
  owner = connection, since = nil, received = 0, floor = 0, last = 0, bytes = 0, counts = '0,0,0,0', home = NODE, node = node}
redis.call('HSET', HASHES, hash, id)
redis.call('ZADD', FLEETS[fleet], text(shard), id)
save(s)
touch(HASHES)
touch(FLEETS[fleet])
touch(SUMS)
keep()
return {'ok', row(s), text(fleet_total(fleet)), ended}
