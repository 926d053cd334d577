-- A room is numbered no more. KEYS: sequence, log, ids, order, ended. ARGV: milliseconds for which its epoch is remembered.
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if epoch then redis.call('SET', KEYS[5], epoch, 'PX', ARGV[1]) end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return 'ok'
