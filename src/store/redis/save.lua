-- Saves the webhook's progress, all of it or nothing.
-- KEYS 1 progress  2 held users  3 waiting dead letters  4 dead letters put back  5 letters  6 seat  7 gone
-- ARGV 1 node ('' if unknown)  2 position  3 number of held users  4 of freed users  5 of dead letters
--      6 of revived letters, then for each held user its id and JSON, the freed users, for each dead
--      letter its id and JSON, and the ids of revived letters
if ARGV[1] ~= '' and redis.call('ZSCORE', KEYS[7], ARGV[1]) then return 'retired' end
local holder = redis.call('GET', KEYS[6])
if holder and holder ~= ARGV[1] then return 'conflict' end
if redis.call('HGET', KEYS[1], 'position') ~= ARGV[2] then
  local time = redis.call('TIME')
  local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
  redis.call('HSET', KEYS[1], 'position', ARGV[2], 'moved', now)
end
local a = 7
for _ = 1, ARGV[3] do
  redis.call('HSET', KEYS[2], ARGV[a], ARGV[a + 1])
  a = a + 2
end
for _ = 1, ARGV[4] do
  redis.call('HDEL', KEYS[2], ARGV[a])
  a = a + 1
end
for _ = 1, ARGV[5] do
  redis.call('HSET', KEYS[5], ARGV[a], ARGV[a + 1])
  redis.call('ZADD', KEYS[3], 0, ARGV[a])
  redis.call('ZREM', KEYS[4], ARGV[a])
  a = a + 2
end
for _ = 1, ARGV[6] do
  redis.call('HDEL', KEYS[5], ARGV[a])
  redis.call('ZREM', KEYS[3], ARGV[a])
  redis.call('ZREM', KEYS[4], ARGV[a])
  a = a + 1
end
return 'ok'
