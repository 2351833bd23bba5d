-- Replaces the figures of a day, and deletes those of old days.
-- KEYS 1 days  2 seat of who counts  3 gone   ARGV 1 node ('' if unknown)  2 day  3 figures  4 first day to keep
if ARGV[1] ~= '' and redis.call('ZSCORE', KEYS[3], ARGV[1]) then return 'retired' end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return 'conflict' end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
for _, day in ipairs(redis.call('HKEYS', KEYS[1])) do
  if tonumber(day) < tonumber(ARGV[4]) then redis.call('HDEL', KEYS[1], day) end
end
return 'ok'
