-- Fences a dead node off, unless it has given another sign of life since it was found dead.
-- KEYS 1 nodes  2 gone
-- ARGV 1 node  2 what it had saved when it was found dead  3 this server's time
-- Returns whether it is fenced: 1 or 0.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
