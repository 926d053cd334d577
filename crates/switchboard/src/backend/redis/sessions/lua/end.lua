-- Ends a session. ARGV: 9 id, 10 its generation ('-': any), 11 why, 12 whether it must be carried. The answer: it, or nothing.
local s = load(ARGV[9])
if not s or (ARGV[10] ~= '-' and text(s.generation) ~= ARGV[10]) or (ARGV[12] == '1' and s.since ~= nil) then
  return false
end
local ended = finish(s, ARGV[11])
keep()
return ended
