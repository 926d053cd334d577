-- Forgets what is old, and has the rest live on. ARGV: 9 how long keys of publications are remembered, 10 how long a day is.
-- The answer: the sessions that ended, the ids of those that did not, and how many rows nobody understands.
local ended, kept, odd = {}, {}, 0
for _, slots in pairs(FLEETS) do
  for _, id in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
    local s = load(id)
    if not s then
      odd = odd + 1
    elseif is_there(s) then
      kept[#kept + 1] = id
    else
      ended[#ended + 1] = finish(s, 'expired')
    end
  end
end
forget_known(tonumber(ARGV[9]))
if NOW - sum('began') >= tonumber(ARGV[10]) then
  redis.call('HDEL', SUMS, 'began', 'starts', 'latest')
end
for _, key in ipairs(KEYS) do
  touch(key)
end
keep()
return {ended, kept, odd}
