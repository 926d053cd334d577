-- Notes a member. Whoever is noted already keeps its place in the order of joining, whatever node it was noted for.
-- KEYS: facts, members. ARGV: name, the rest of its row.
local made, version, pattern, closing = unpack(redis.call('HMGET', KEYS[1], 'made', 'version', 'pattern', 'closing'))
if not made or closing then return false end
local place = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%d+)\t')
if not place then place = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 'joins', 1)) end
redis.call('HSET', KEYS[2], ARGV[1], place .. '\t' .. ARGV[2])
return {made, version, pattern, {place}}
