-- A room begins to be numbered, unless it is already. KEYS: sequence, log, ids, order, ended.
-- ARGV: generation, now, epoch that is known, number that is known, whether only a room that was not destroyed ('1').
if redis.call('EXISTS', KEYS[1]) == 1 then return 'ok' end
local ended = tonumber(redis.call('GET', KEYS[5]) or '0')
if ended > 0 and ARGV[5] == '1' then return 'ok' end
local epoch = math.max(tonumber(ARGV[2]), tonumber(ARGV[3]) + 1, ended + 1)
-- What is left of a room whose sequence was evicted.
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', epoch), 'last', ARGV[4], 'generation', ARGV[1])
return 'ok'
