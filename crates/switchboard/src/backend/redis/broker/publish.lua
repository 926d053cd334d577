-- A message gets its number, is kept, and goes to all nodes. KEYS: sequence, log, ids, order, channel, and in a Redis Cluster, whose client
-- may send this twice, where its head is remembered.
-- ARGV: 1 generation, 2 now, 3 number that is known, 4 mark, 5 envelope, 6 id or nothing, 7 user or nothing, 8 most messages of the log,
-- 9 most bytes, 10 most ids, 11 most bytes of what has ids, 12 milliseconds for which ids are remembered, 13 command that publishes or
-- nothing, 14 milliseconds for which the head is remembered.
local text = function(number) return string.format('%.0f', number) end
local now = tonumber(ARGV[2])
local room = redis.call('HMGET', KEYS[1], 'epoch', 'last', 'generation', 'mark', 'bytes', 'id_bytes')
if not room[1] then return {'none'} end
if KEYS[6] then
  local head = redis.call('GET', KEYS[6])
  if head then return {'ok', head} end
end
local epoch, last, generation = tonumber(room[1]), tonumber(room[2]), tonumber(ARGV[1])
if tonumber(room[3]) > generation then return {'stale'} end

local id_bytes = tonumber(room[6] or '0')
local forget = function()
  while true do
    local oldest = redis.call('LINDEX', KEYS[4], 0)
    if not oldest then id_bytes = 0 return end
    local came, size, id = string.match(oldest, '^(%d+) (%d+) (.*)$')
    local fits = redis.call('LLEN', KEYS[4]) <= tonumber(ARGV[10]) and id_bytes <= tonumber(ARGV[11])
    if fits and tonumber(came) + tonumber(ARGV[12]) > now then return end
    redis.call('LPOP', KEYS[4])
    redis.call('HDEL', KEYS[3], id)
    id_bytes = id_bytes - tonumber(size)
  end
end
if ARGV[6] ~= '' then
  forget()
  local earlier = redis.call('HGET', KEYS[3], ARGV[6])
  if earlier then
    local user = string.match(earlier, '^[^\n]*\n([^\n]*)\n')
    if user == ARGV[7] then return {'before', earlier} end
    return {'taken'}
  end
end

if tonumber(room[3]) < generation then
  -- What the store had confirmed may be lost. What nodes have heard is not numbered again.
  epoch = math.max(epoch + 1, now)
  last = math.max(last, tonumber(ARGV[3]))
end
last = last + 1
local before = room[4] or string.rep('\0', 8)
local place = text(epoch) .. '-' .. text(last)
local head = place .. '\n' .. before

local entry = before .. ARGV[5]
local bytes, most = tonumber(room[5] or '0'), tonumber(ARGV[9])
if tonumber(ARGV[8]) == 0 or #entry > most then
  redis.call('DEL', KEYS[2])
  bytes = 0
else
  redis.call('XADD', KEYS[2], place, 'm', entry)
  bytes = bytes + #entry
  local count = redis.call('XLEN', KEYS[2])
  while count > tonumber(ARGV[8]) or bytes > most do
    local oldest = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
    if not oldest then
      -- The log was lost, and the sum is of what was in it.
      bytes = 0
      break
    end
    redis.call('XDEL', KEYS[2], oldest[1])
    bytes = bytes - #oldest[2][2]
    count = count - 1
  end
end

if ARGV[6] ~= '' then
  local said = place .. '\n' .. ARGV[7] .. '\n' .. ARGV[5]
  redis.call('HSET', KEYS[3], ARGV[6], said)
  redis.call('RPUSH', KEYS[4], text(now) .. ' ' .. #said .. ' ' .. ARGV[6])
  id_bytes = id_bytes + #said
  forget()
  redis.call('PEXPIRE', KEYS[3], ARGV[12])
  redis.call('PEXPIRE', KEYS[4], ARGV[12])
end
redis.call('HSET', KEYS[1], 'epoch', text(epoch), 'last', text(last), 'generation', ARGV[1], 'mark', ARGV[4],
  'bytes', text(bytes), 'id_bytes', text(id_bytes))
if KEYS[6] then redis.call('SET', KEYS[6], head, 'PX', ARGV[14]) end
if ARGV[13] ~= '' then redis.call(ARGV[13], KEYS[5], head .. ARGV[5]) end
return {'ok', head}
