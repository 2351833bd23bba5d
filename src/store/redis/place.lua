-- Begins every script that changes a partition's log.
--
-- A partition's place is one string, "ms sq n b w begin last":
--   ms sq   the log's clock: the greatest id that it has given out or passed
--   n b     how many entries, and bytes of events, it ever had
--   w       the number of the last message on the feed
--   begin   the log is whole after this id: its birth, or the last entry that was trimmed
--   last    the id of the last entry
local function server_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Reads a place. A log that does not exist begins now, also after a FLUSHALL.
local function read_place(key, now)
  local text = redis.call('GET', key)
  if not text then
    local birth = string.format('%d-0', now)
    return now, 0, 0, 0, now, birth, birth
  end
  local ms, sq, n, b, w, begin, last =
    string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+) (%S+) (%S+)$')
  return tonumber(ms), tonumber(sq), tonumber(n), tonumber(b), tonumber(w), begin, last
end

local function write_place(key, ms, sq, n, b, w, begin, last)
  local place = string.format('%d %d %d %d %d %s %s', ms, sq, n, b, w, begin, last)
  redis.call('SET', key, place)
  return place
end
