-- A session is given to a connection. ARGV: 9 hash, 10 shard, 11 the last event that was dealt with ('-': not said), 12 the
-- connection, 13 the node's name. The answer: nothing, or id, row, the fleet's total, behind which event to go on, and who had it.
local id = redis.call('HGET', HASHES, ARGV[9])
local s = id and load(id)
if not s or s.hash ~= ARGV[9] or not is_there(s) or text(s.shard) ~= ARGV[10] then
  return false
end
local seq = tonumber(ARGV[11])
local after = seq or s.received
if after < s.floor or after > s.last then
  return false
end
local owner, node = s.owner, s.node
s.generation, s.owner, s.node, s.since, s.home = s.generation + 1, ARGV[12], ARGV[13], nil, NODE
-- It has dealt with no more than it says, whatever its host had received before.
s.received = after
if seq then
  forget(s, after)
end
save(s)
keep()
return {id, row(s), text(fleet_total(s.fleet)), text(after), owner, node}
