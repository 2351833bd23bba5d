-- Deletes a log's entries up to an id, and notes that the log begins after it.
-- KEYS 1 log  2 place   ARGV 1 and 2 the id: its ms and its sequence number
local to_ms, to_sq = tonumber(ARGV[1]), tonumber(ARGV[2])
local ms, sq, n, b, w, begin, last = read_place(KEYS[2], server_ms())
local begin_ms, begin_sq = string.match(begin, '^(%d+)-(%d+)$')
begin_ms, begin_sq = tonumber(begin_ms), tonumber(begin_sq)
-- Another node may have trimmed more.
if to_ms > begin_ms or to_ms == begin_ms and to_sq > begin_sq then
  begin = string.format('%d-%d', to_ms, to_sq)
end
redis.call('XTRIM', KEYS[1], 'MINID', string.format('%d-%d', to_ms, to_sq + 1))
return write_place(KEYS[2], ms, sq, n, b, w, begin, last)
