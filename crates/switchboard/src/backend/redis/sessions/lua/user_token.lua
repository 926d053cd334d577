-- Adds a token to those of its user, as the newest. KEYS: 1 these, by rising numbers. ARGV: 1 the token, 2 how many there may be,
-- 3 for how many milliseconds it is kept. The answer: the tokens that go because there are too many.
redis.call('ZREM', KEYS[1], ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('ZADD', KEYS[1], string.format('%.0f', (tonumber(last) or 0) + 1), ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
local too_many = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if too_many <= 0 then
  return {}
end
local oldest = redis.call('ZRANGE', KEYS[1], 0, too_many - 1)
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, too_many - 1)
return oldest
