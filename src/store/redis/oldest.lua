-- Reads the place of a partition and the sizes and times of its oldest entries, without their events.
-- KEYS 1 place  2 log   ARGV 1 how many entries
-- Returns the place ('' if there is none), then id, chain and bytes of each entry.
local answer = {redis.call('GET', KEYS[1]) or ''}
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[1])) do
  local fields = entry[2]
  for _, value in ipairs({entry[1], fields[6], string.format('%d', #fields[4])}) do
    answer[#answer + 1] = value
  end
end
return answer
