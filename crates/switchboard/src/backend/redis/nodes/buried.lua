-- A dead node's affairs are in order. KEYS: graves, diggers. ARGV: slot, incarnation of the digger.
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
