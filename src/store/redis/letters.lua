-- Puts waiting dead letters back for a retry, or drops them; returns how many.
-- KEYS 1 waiting dead letters  2 dead letters put back  3 letters   ARGV 1 'back' or 'drop', then their ids
local count = 0
for a = 2, #ARGV do
  if redis.call('ZREM', KEYS[1], ARGV[a]) == 1 then
    count = count + 1
    if ARGV[1] == 'back' then redis.call('ZADD', KEYS[2], 0, ARGV[a])
    else redis.call('HDEL', KEYS[3], ARGV[a]) end
  end
end
return count
