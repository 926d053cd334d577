-- A node enters the list of nodes, or proves to be in it. KEYS: meta, list, seen, dead, tombstones.
-- ARGV: masters (names with commas), name of the cluster, format, slot or 0, generation it knows, incarnation, name,
-- the rest of its entry, and the time for which a node of the same name is spared.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local format = redis.call('HGET', KEYS[1], 'format')
if format and format ~= ARGV[3] then return {'format', format} end
local cluster = redis.call('HGET', KEYS[1], 'cluster')
if cluster and cluster ~= ARGV[2] then return {'cluster', cluster} end

-- A master that was there and is not any more may have taken with it what it had confirmed.
local generation = tonumber(redis.call('HGET', KEYS[1], 'generation') or '0') or 0
local known = redis.call('HGET', KEYS[1], 'masters')
local is_lost = not known
for master in string.gmatch(known or '', '[^,]+') do
  if not string.find(',' .. ARGV[1] .. ',', ',' .. master .. ',', 1, true) then is_lost = true end
end
if is_lost then generation = math.max(generation + 1, now) end
redis.call('HSET', KEYS[1], 'format', ARGV[3], 'cluster', ARGV[2], 'masters', ARGV[1],
  'generation', string.format('%.0f', generation))

local slot, incarnation, name = tonumber(ARGV[4]), ARGV[6], ARGV[7]
if redis.call('HEXISTS', KEYS[4], incarnation) == 1 then return {'fenced'} end
if slot > 0 then
  local entry = redis.call('HGET', KEYS[2], slot)
  if entry and string.sub(entry, 1, #incarnation + 1) ~= incarnation .. '\t' then return {'fenced'} end
  -- It was taken out so long ago that nobody remembers, unless the store has forgotten everything.
  if not entry and tonumber(ARGV[5]) == generation then return {'fenced'} end
else
  local taken = {}
  for _, grave in ipairs(redis.call('HKEYS', KEYS[5])) do taken[tonumber(grave) or 0] = true end
  local entries = redis.call('HGETALL', KEYS[2])
  for i = 1, #entries, 2 do
    local other, its_name = string.match(entries[i + 1], '^(.-)\t(.-)\t')
    if other == incarnation then
      -- The same attach again: its first answer was lost, or the client of a Redis Cluster sent it twice.
      slot = tonumber(entries[i])
    elseif its_name == name then
      -- A node of the same name is an earlier life of this one. A fenced node does not replace the one that took its name.
      local seen = tonumber(redis.call('ZSCORE', KEYS[3], entries[i]) or '0')
      if now - seen < tonumber(ARGV[9]) then return {'name'} end
      redis.call('HSET', KEYS[4], other, now)
      redis.call('HSET', KEYS[5], entries[i], entries[i + 1])
      redis.call('HDEL', KEYS[2], entries[i])
      redis.call('ZREM', KEYS[3], entries[i])
    end
    taken[tonumber(entries[i]) or 0] = true
  end
  if slot == 0 then
    slot = 1
    while taken[slot] do slot = slot + 1 end
  end
  if slot > 65535 then return {'full'} end
  local dead = redis.call('HGETALL', KEYS[4])
  for i = 1, #dead, 2 do
    if now - (tonumber(dead[i + 1]) or 0) > 86400000 then redis.call('HDEL', KEYS[4], dead[i]) end
  end
end
redis.call('HSET', KEYS[2], slot, incarnation .. '\t' .. name .. '\t' .. ARGV[8])
redis.call('ZADD', KEYS[3], now, slot)
return {'ok', string.format('%.0f', generation), slot}
