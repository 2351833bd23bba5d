-- Saves a dashboard login, and deletes the earliest ones with the same key if there are too many.
-- KEYS 1 logins  2 logins of this key, by end   ARGV 1 login  2 key  3 how long it lives (ms)  4 the most of one key
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = string.format('%d', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ends .. ' ' .. ARGV[2])
redis.call('ZADD', KEYS[2], ends, ARGV[1])
local excess = redis.call('ZCARD', KEYS[2]) - ARGV[4]
local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%d', now))
if excess > #ended then ended = redis.call('ZRANGE', KEYS[2], 0, excess - 1) end
for _, login in ipairs(ended) do
  redis.call('HDEL', KEYS[1], login)
  redis.call('ZREM', KEYS[2], login)
end
