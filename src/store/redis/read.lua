-- Reads a partition's place, and entries from an id on, at one moment.
-- KEYS 1 place  2 log   ARGV 1 first id  2 how many entries
-- Returns the place ('' if there is none), then id, user, event and chain of each entry.
local answer = {redis.call('GET', KEYS[1]) or ''}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])) do
  local fields = entry[2]
  for _, value in ipairs({entry[1], fields[2], fields[4], fields[6]}) do
    answer[#answer + 1] = value
  end
end
return answer
