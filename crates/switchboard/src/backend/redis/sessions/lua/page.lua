-- Sessions of a fleet that have not expired, by their shards. ARGV: 9 the fleet ('0' or '1'), 10 the shard after
-- which to begin ('-': with the first), 11 how many at most. The answer is that of list.lua, without rows that cannot
-- be parsed.
local answer, fleet, most = {}, ARGV[9], tonumber(ARGV[11])
local from, total = ARGV[10] == '-' and '-inf' or '(' .. ARGV[10], nil
while #answer < most do
  local wanted = most - #answer
  local slots = redis.call('ZRANGEBYSCORE', FLEETS[fleet], from, '+inf', 'WITHSCORES', 'LIMIT', 0, wanted)
  for at = 1, #slots, 2 do
    local s = load(slots[at])
    if s and is_there(s) then
      total = total or text(fleet_total(fleet))
      answer[#answer + 1] = {s.id, row(s), total, text(NOW)}
    end
    from = '(' .. slots[at + 1]
  end
  if #slots < 2 * wanted then
    break
  end
end
return answer
