-- Moves a log's clock on, so that readers know that no more entries come before it, and publishes it.
-- KEYS 1 place  2 feed  3 users by wall deadline   ARGV 1 the greatest clock that the caller has seen
-- Returns the place, the earliest wall deadline or '', and this server's time.
local time = server_ms()
local now = math.max(time, tonumber(ARGV[1]))
local ms, sq, n, b, w, begin, last = read_place(KEYS[1], now)
if now > ms then ms, sq = now, 0 end
local place = write_place(KEYS[1], ms, sq, n, b, w, begin, last)
redis.call('SPUBLISH', KEYS[2], '= ' .. place)
return {place, redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or '', time}
