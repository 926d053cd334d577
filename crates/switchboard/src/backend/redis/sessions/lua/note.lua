-- Figures and positions of sessions that are carried; with 'detach', that nobody carries them any more. ARGV: 9 'note' or 'detach';
-- from 10 on, of each its id, generation, received, counts. The answer: how many were carried so.
local carried = 0
for at = 10, #ARGV, 4 do
  local s = load(ARGV[at])
  if is_carried(s, ARGV[at + 1]) then
    carried = carried + 1
    local before = row(s)
    take_note(s, ARGV[at + 2], ARGV[at + 3])
    if ARGV[9] == 'detach' then
      s.owner, s.node, s.since = '-', '', NOW
    end
    if row(s) ~= before then
      save(s)
    end
  end
end
keep()
return carried
