-- Sessions that have not expired. ARGV: 9 the fleet ('0', '1'; '-': both), 10 the session ('-': all). The answer: of each its id, its
-- row, the fleet's total and the time; '' in place of a row that cannot be parsed.
local answer = {}
local function add(id, total)
  local kept = redis.call('HGET', ROWS, id)
  local s = kept and parse(id, kept)
  if kept and (not s or is_there(s)) then
    answer[#answer + 1] = {id, s and kept or '', text(total or fleet_total(s and s.fleet or '0')), text(NOW)}
  end
end
if ARGV[10] ~= '-' then
  add(ARGV[10])
  return answer
end
for fleet, slots in pairs(FLEETS) do
  if ARGV[9] == '-' or ARGV[9] == fleet then
    local total = fleet_total(fleet)
    for _, id in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
      add(id, total)
    end
  end
end
return answer
