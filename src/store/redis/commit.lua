-- Commits one change of a user: all of it, or nothing. The caller has decided what is written.
-- KEYS 1 record  2 log  3 place  4 counts  5 gone  6 feed, then one for each index that changes
-- ARGV 1 node  2 deadline (ms, this server's clock)  3 expected revision ('' for no record)
--      4 new revision  5 wall deadline and record ('' deletes the record)  6 user
--      7 message for the other nodes ('' for none)
--      8 and 9 an id that the new entries must come after: its ms and its sequence number
--      10 greatest sequence number  11 number of counts  12 of indexes  13 of events,
--      then for each count its field and change, for each index a score or 'x' (remove),
--      and for each event its time and JSON
local now = server_ms()
if now > tonumber(ARGV[2]) then return {'late', now} end
if redis.call('ZSCORE', KEYS[5], ARGV[1]) then return {'retired'} end
local old = redis.call('GET', KEYS[1])
if (old and string.sub(old, 1, 16) or '') ~= ARGV[3] then return {'conflict'} end

local user = ARGV[6]
local counts, indexes, events = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local previous = old and string.match(string.sub(old, 17, 36), '^%S+') or '0'
local ms, sq, n, b, w, begin, last = read_place(KEYS[3], now)
-- The caller's earlier entries come first, whichever server's clock they followed.
local after_ms, after_sq = tonumber(ARGV[8]), tonumber(ARGV[9])
if after_ms > ms or after_ms == ms and after_sq > sq then ms, sq = after_ms, after_sq end

-- XADD comes first: it is the only write that Redis may refuse. After it nothing can fail.
local a = 14 + 2 * counts + indexes
for _ = 1, events do
  if now > ms then ms, sq = now, 0
  elseif sq < tonumber(ARGV[10]) then sq = sq + 1
  else ms, sq = ms + 1, 0 end
  local at, event = ARGV[a], ARGV[a + 1]
  a, n, b = a + 2, n + 1, b + #event
  last = string.format('%d-%d', ms, sq)
  local chain = string.format('%s %d %d %s', previous, n, b, at)
  redis.call('XADD', KEYS[2], last, 'u', user, 'e', event, 'c', chain)
  previous = last
end

a = 14
for _ = 1, counts do
  redis.call('HINCRBY', KEYS[4], ARGV[a], ARGV[a + 1])
  a = a + 2
end
for i = 1, indexes do
  local key, score = KEYS[6 + i], ARGV[a]
  if score == 'x' then redis.call('ZREM', key, user) else redis.call('ZADD', key, score, user) end
  a = a + 1
end
if ARGV[7] ~= '' then
  w = w + 1
  redis.call('SPUBLISH', KEYS[6], string.format('%d %s ', w, ARGV[1]) .. ARGV[7])
end
local place = write_place(KEYS[3], ms, sq, n, b, w, begin, last)
if ARGV[5] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[4] .. string.format('%-20s', previous) .. ARGV[5]) end
return {'ok', place}
