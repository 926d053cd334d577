-- A node says that it lives, and looks around. KEYS: meta, list, seen, dead, graves, diggers.
-- ARGV: slot, incarnation, name, the rest of its entry.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local slot, incarnation = ARGV[1], ARGV[2]
if redis.call('HEXISTS', KEYS[4], incarnation) == 1 then return {'fenced'} end
local entry = redis.call('HGET', KEYS[2], slot)
if not entry then return {'unknown'} end
if string.sub(entry, 1, #incarnation + 1) ~= incarnation .. '\t' then return {'fenced'} end
redis.call('HSET', KEYS[2], slot, incarnation .. '\t' .. ARGV[3] .. '\t' .. ARGV[4])
redis.call('ZADD', KEYS[3], now, slot)
local nodes = {}
local entries = redis.call('HGETALL', KEYS[2])
for i = 1, #entries, 2 do
  local seen = tonumber(redis.call('ZSCORE', KEYS[3], entries[i]) or '0')
  nodes[#nodes + 1] = {entries[i], entries[i + 1], string.format('%.0f', math.max(now - seen, 0))}
end
-- Graves that nobody who lives is digging.
local graves = {}
entries = redis.call('HGETALL', KEYS[5])
for i = 1, #entries, 2 do
  local digger = redis.call('HGET', KEYS[6], entries[i])
  if not digger or redis.call('HEXISTS', KEYS[4], digger) == 1 then
    graves[#graves + 1] = {entries[i], entries[i + 1]}
  end
end
return {'ok', redis.call('HGET', KEYS[1], 'generation'), nodes, graves}
