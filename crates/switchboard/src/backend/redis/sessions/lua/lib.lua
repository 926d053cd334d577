-- What all scripts about sessions of shards share. Everything is of one application, in one life of the store.
--
-- KEYS, all with the tag of the application:
--   1 rows of sessions by id            2 the slots of the fleet       3 those of the development fleet
--   4 ids by the hash that resumes      5 events by "id:number"        6 rooms by id, one a line, in the order of joining
--   7 numbers heard by "id:room"        8 publications by their key    9 these keys, the oldest first
--   10 bytes of all logs, sessions that no connection carries, weight of publications, beginnings
-- ARGV, always: 1 how long keys live, 2 the resume window, 3 the time, or '' for that of this server, 4 this node, 5
-- events and 6 bytes of a log, 7 bytes of all logs, 8 the beginning of the channels of nodes ('': none of them is
-- notified).
--
-- A row: "1 hash development shard total flags created generation connection since received floor last bytes counts
-- home node". What is not there is "-". Numbers of clients that may be above 2^53 (flags, counts) are texts here. A
-- row that is not one, or has numbers that we did not write, is ignored, as if there were no session.

local ROWS, FLEETS, HASHES, LOG = KEYS[1], {['0'] = KEYS[2], ['1'] = KEYS[3]}, KEYS[4], KEYS[5]
local ROOMS, HEARD, KNOWN, ORDER, SUMS = KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local TTL, WINDOW, NOW, NODE = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
if not NOW then
  local time = redis.call('TIME')
  NOW = time[1] * 1000 + math.floor(time[2] / 1000)
end
local LOG_EVENTS, LOG_BYTES, TOTAL_BYTES, CHANNEL = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8]
-- No log is longer; a row that says so is not ours, and would keep a loop busy.
local MOST_EVENTS = 2 ^ 20

local PATTERN = '^1 (%x+) ([01]) (%d+) (%S+) (%d+) (%d+) (%d+) (%S+) (%S+) (%d+) (%d+) (%d+) (%d+) (%S+) (%d+) (.*)$'

local touched = {}

local function touch(key)
  touched[key] = true
end

-- To be called at the end: what was written lives for a while from now on.
local function keep()
  for key in pairs(touched) do
    redis.call('PEXPIRE', key, TTL)
  end
end

local function text(number)
  return string.format('%.0f', number)
end

local function parse(id, row)
  local s = {id = id}
  s.hash, s.fleet, s.shard, s.total, s.flags, s.created, s.generation, s.owner, s.since, s.received, s.floor, s.last, s.bytes,
    s.counts, s.home, s.node = string.match(row, PATTERN)
  if not s.hash then
    return nil
  end
  for _, name in ipairs({'shard', 'created', 'generation', 'received', 'floor', 'last', 'bytes'}) do
    s[name] = tonumber(s[name])
    if s[name] >= 2 ^ 53 then
      return nil
    end
  end
  s.total = tonumber(s.total)
  s.since = tonumber(s.since)
  s.was_detached = s.since and 1 or 0
  if s.floor > s.last or s.last - s.floor > MOST_EVENTS or (s.owner == '-') == (s.since == nil) then
    return nil
  end
  return s
end

local function row(s)
  return table.concat({'1', s.hash, s.fleet, text(s.shard), s.total and text(s.total) or '-', s.flags, text(s.created),
    text(s.generation), s.owner, s.since and text(s.since) or '-', text(s.received), text(s.floor), text(s.last), text(s.bytes),
    s.counts, s.home, s.node}, ' ')
end

local function load(id)
  local kept = redis.call('HGET', ROWS, id)
  return kept and parse(id, kept) or nil
end

local function is_there(s)
  return s.since == nil or NOW - s.since < WINDOW
end

local function is_carried(s, generation)
  return s ~= nil and s.since == nil and text(s.generation) == generation
end

-- The sessions of a fleet by their shards, also those that have expired.
local function all_of(fleet)
  local all = {}
  for _, id in ipairs(redis.call('ZRANGE', FLEETS[fleet], 0, -1)) do
    all[#all + 1] = load(id)
  end
  return all
end

local function alive_of(fleet)
  local alive = {}
  for _, s in ipairs(all_of(fleet)) do
    if is_there(s) then
      alive[#alive + 1] = s
    end
  end
  return alive
end

local function alive_at(fleet, shard)
  local id = redis.call('ZRANGEBYSCORE', FLEETS[fleet], text(shard), text(shard), 'LIMIT', 0, 1)[1]
  local s = id and load(id)
  return s and is_there(s) and s or nil
end

local function counted(alive)
  local highest = -1
  for _, s in ipairs(alive) do
    highest = math.max(highest, s.shard)
  end
  return highest + 1
end

-- How many shards a fleet has: as its master was told; without a master, as the others were told; and if nobody was told
-- anything, as many as the highest shard says.
local function fleet_total(fleet)
  local master = alive_at(fleet, 0)
  if master and master.total then
    return master.total
  end
  local alive = alive_of(fleet)
  local total = counted(alive)
  if not master then
    for _, s in ipairs(alive) do
      total = math.max(total, s.total or 0)
    end
  end
  return total
end

local function sum(name)
  return tonumber(redis.call('HGET', SUMS, name) or '0') or 0
end

local function add_to(name, number)
  if number ~= 0 then
    redis.call('HSET', SUMS, name, text(math.max(0, sum(name) + number)))
    touch(SUMS)
  end
end

-- Keeps the sum of sessions that no connection carries. `is_detached`: 1 if this is one now, else 0.
local function count_detached(s, is_detached)
  add_to('detached', is_detached - (s.was_detached or 0))
  s.was_detached = is_detached
end

local function save(s)
  redis.call('HSET', ROWS, s.id, row(s))
  touch(ROWS)
  count_detached(s, s.since and 1 or 0)
end

local function event(id, seq)
  return id .. ':' .. text(seq)
end

-- Forgets the oldest event of a log. The row is not saved, and the sum of all not told.
local function pop(s)
  s.floor = s.floor + 1
  local field = event(s.id, s.floor)
  local bytes = math.min(s.bytes, redis.call('HSTRLEN', LOG, field))
  redis.call('HDEL', LOG, field)
  s.bytes = s.bytes - bytes
  return bytes
end

-- Forgets the events up to `seq`. The row is not saved.
local function forget(s, seq)
  local bytes = 0
  if seq < s.last then
    while s.floor < seq do
      bytes = bytes + pop(s)
    end
  else
    -- All of them: nobody has to look at each. So many at once fit on the stack.
    for first = s.floor + 1, s.last, 1000 do
      local fields = {}
      for at = first, math.min(first + 999, s.last) do
        fields[#fields + 1] = event(s.id, at)
      end
      redis.call('HDEL', LOG, unpack(fields))
    end
    bytes, s.bytes, s.floor = s.bytes, 0, s.last
  end
  add_to('bytes', -bytes)
end

-- Appends an event, trims the log, and tells whoever carries the session on another node.
local function push(s, item)
  local share = math.floor(TOTAL_BYTES / math.max(1, redis.call('HLEN', ROWS)))
  local all = sum('bytes') + #item
  local change = #item
  s.last = s.last + 1
  s.bytes = s.bytes + #item
  redis.call('HSET', LOG, event(s.id, s.last), item)
  touch(LOG)
  -- The newest stays in any case.
  while s.last - s.floor > 1 and (s.last - s.floor > LOG_EVENTS or s.bytes > LOG_BYTES
      or (all + change - #item > TOTAL_BYTES and s.bytes > share)) do
    change = change - pop(s)
  end
  add_to('bytes', change)
  save(s)
  if CHANNEL ~= '' and s.since == nil and s.home ~= NODE and s.home ~= '0' then
    redis.call('PUBLISH', CHANNEL .. s.home, 'g' .. s.id .. ' ' .. text(s.last) .. ' ' .. #item)
  end
  return s.last
end

local function take_note(s, received, counts)
  s.received = math.max(s.received, math.min(tonumber(received), s.last))
  s.counts = counts
end

local function rooms_of(id)
  local rooms = {}
  for room in string.gmatch(redis.call('HGET', ROOMS, id) or '', '([^\n]+)\n') do
    rooms[#rooms + 1] = room
  end
  return rooms
end

-- Ends a session, and says which and why, who carried it, its home, and its rooms.
local function finish(s, why)
  local rooms = rooms_of(s.id)
  for _, room in ipairs(rooms) do
    redis.call('HDEL', HEARD, s.id .. ':' .. room)
  end
  redis.call('HDEL', ROOMS, s.id)
  forget(s, s.last)
  if redis.call('HGET', HASHES, s.hash) == s.id then
    redis.call('HDEL', HASHES, s.hash)
  end
  redis.call('ZREM', FLEETS[s.fleet], s.id)
  redis.call('HDEL', ROWS, s.id)
  count_detached(s, 0)
  return {s.id, why, s.owner, s.node, s.home, rooms}
end

local function forget_oldest_known()
  local key = redis.call('LPOP', ORDER)
  local kept = redis.call('HGET', KNOWN, key)
  if kept then
    redis.call('HDEL', KNOWN, key)
    add_to('weight', -(tonumber(string.match(kept, '^%d+ (%d+) ')) or 0))
  end
end

-- Forgets publications that are as old as this.
local function forget_known(age)
  while true do
    local key = redis.call('LINDEX', ORDER, 0)
    if not key then
      return
    end
    local at = tonumber(string.match(redis.call('HGET', KNOWN, key) or '', '^(%d+) '))
    if at and NOW - at < age then
      return
    end
    forget_oldest_known()
  end
end

