-- Claims a dead node. KEYS: list, seen, dead, graves, diggers. ARGV: slot, its incarnation, incarnation of the claimer, lease.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local slot, incarnation = ARGV[1], ARGV[2]
local is_it = function(entry) return entry and string.sub(entry, 1, #incarnation + 1) == incarnation .. '\t' end
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then return false end
local entry = redis.call('HGET', KEYS[1], slot)
if is_it(entry) then
  local seen = tonumber(redis.call('ZSCORE', KEYS[2], slot) or '0')
  if now - seen <= tonumber(ARGV[4]) then return false end
  redis.call('HSET', KEYS[3], incarnation, now)
  redis.call('HSET', KEYS[4], slot, entry)
  redis.call('HDEL', KEYS[1], slot)
  redis.call('ZREM', KEYS[2], slot)
end
local grave = redis.call('HGET', KEYS[4], slot)
if not is_it(grave) then return false end
local digger = redis.call('HGET', KEYS[5], slot)
if digger and digger ~= ARGV[3] and redis.call('HEXISTS', KEYS[3], digger) == 0 then return false end
redis.call('HSET', KEYS[5], slot, ARGV[3])
return 1
