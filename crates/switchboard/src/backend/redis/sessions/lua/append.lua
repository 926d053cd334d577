-- Events for one session, in this order. ARGV: 9 id; from 10 on, of each the room ('': none), its number there, whether it tells a
-- gap, the event. The answer: of each its number in the log; 0: there is no such session, it is not in the room, or has heard it.
local s, answers = load(ARGV[9]), {}
local is_alive = s and is_there(s)
for at = 10, #ARGV, 4 do
  local room, number, is_wanted = ARGV[at], tonumber(ARGV[at + 1]), is_alive
  if is_wanted and room ~= '' then
    local field = ARGV[9] .. ':' .. room
    local heard = tonumber(redis.call('HGET', HEARD, field))
    is_wanted = heard and (number > heard or ARGV[at + 2] == '1')
    if is_wanted and number > heard then
      redis.call('HSET', HEARD, field, text(number))
      touch(HEARD)
    end
  end
  answers[#answers + 1] = is_wanted and push(s, ARGV[at + 3]) or 0
end
keep()
return answers
