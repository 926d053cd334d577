-- Forgets a member, if it is noted for this node and, if that is said, at this place. KEYS: members. ARGV: name, owner, place or nothing.
local row = redis.call('HGET', KEYS[1], ARGV[1])
local place, owner = string.match(row or '', '^(%d+)\t(%d+\t%d+)\t')
if owner ~= ARGV[2] or (ARGV[3] ~= '' and place ~= ARGV[3]) then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
