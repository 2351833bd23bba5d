-- Saves a node's sign of life, and takes the seat (who posts webhooks) if its holder is gone.
-- KEYS 1 nodes  2 gone  3 seat  4 latest time   ARGV 1 node  2 sign and card  3 the node's own time
-- Returns the seat's holder, this server's time, then each node and what it saved.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'retired'} end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], ARGV[1], now .. ' ' .. ARGV[2])
local holder = redis.call('GET', KEYS[3])
if not holder or redis.call('HEXISTS', KEYS[1], holder) == 0 or redis.call('ZSCORE', KEYS[2], holder) then
  holder = ARGV[1]
  redis.call('SET', KEYS[3], holder)
end
if tonumber(ARGV[3]) > tonumber(redis.call('GET', KEYS[4]) or '0') then
  redis.call('SET', KEYS[4], ARGV[3])
end
local answer = {holder, now}
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do answer[#answer + 1] = value end
return answer
