-- A time that is later than all before. KEYS: 1 the latest. ARGV: 1 the time, 2 for how many milliseconds a time is kept that is
-- over. The answer: the time, as a text.
local now = tonumber(ARGV[1])
local latest = tonumber(redis.call('GET', KEYS[1]) or '')
if latest and latest >= now and latest < 2 ^ 53 then
  latest = latest + 1
else
  latest = now
end
local text = string.format('%.0f', latest)
redis.call('SET', KEYS[1], text, 'PX', string.format('%.0f', latest - now + tonumber(ARGV[2])))
return text
