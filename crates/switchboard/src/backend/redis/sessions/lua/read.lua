-- Events of a log. ARGV: 9 id, 10 generation, 11 behind which, 12 most events, 13 most bytes. The answer: why not; or whether there
-- are more ('1' or '0'), and the events.
local s, after, most, most_bytes = load(ARGV[9]), tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
if not is_carried(s, ARGV[10]) then
  return {'fenced'}
end
if after < s.floor then
  return {'trimmed'}
end
local answer, bytes = {'0'}, 0
for seq = after + 1, s.last do
  local item = redis.call('HGET', LOG, event(s.id, seq))
  if not item then
    -- Somebody else took it. What is behind it must not come without it.
    return {'trimmed'}
  end
  bytes = bytes + #item
  if #answer > 1 and (#answer > most or bytes > most_bytes) then
    answer[1] = '1'
    break
  end
  answer[#answer + 1] = item
end
return answer
