-- Takes over the sessions of a node that is dead: nobody carries them from now on. ARGV: 9 its number, 10 who takes them.
-- The answer: of each its id, row and the fleet's total.
local answer = {}
for fleet in pairs(FLEETS) do
  for _, s in ipairs(all_of(fleet)) do
    if s.home == ARGV[9] then
      s.home = ARGV[10]
      if s.since == nil then
        s.owner, s.node, s.since = '-', '', NOW
      end
      save(s)
      answer[#answer + 1] = s
    end
  end
end
local totals = {}
for fleet in pairs(FLEETS) do totals[fleet] = text(fleet_total(fleet)) end
for place, s in ipairs(answer) do answer[place] = {s.id, row(s), totals[s.fleet]} end
keep()
return answer
