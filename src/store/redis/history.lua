-- Follows the chain of a user's entries, from a newer to an older one.
-- KEYS 1 log   ARGV 1 id of the first entry  2 how many entries
-- Returns the id of the next entry ('' at the end of the chain), then id and event of each entry.
local answer, id = {''}, ARGV[1]
for _ = 1, ARGV[2] do
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  -- The first entry of a chain points to '0'; older entries may have been trimmed.
  if not entry then return answer end
  answer[#answer + 1] = id
  answer[#answer + 1] = entry[2][4]
  id = string.match(entry[2][6], '^%S+')
end
answer[1] = id
return answer
