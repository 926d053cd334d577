-- A client has dealt with events. ARGV: 9 id, 10 generation, 11 up to which.
local s, seq = load(ARGV[9]), tonumber(ARGV[11])
if not is_carried(s, ARGV[10]) then
  return 'fenced'
end
if seq > s.last then
  return 'ahead'
end
if seq > s.floor or seq > s.received then
  s.received = math.max(s.received, seq)
  forget(s, seq)
  save(s)
  keep()
end
return 'ok'
