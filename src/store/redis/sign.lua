-- Saves a node's sign of life, and gives it the seat (who posts webhooks) if the holder is gone or stuck.
-- KEYS 1 nodes  2 gone  3 seat  4 latest time  5 the webhook's progress
-- ARGV 1 node  2 sign and card  3 the node's own time  4 the log's head  5 how long a holder may be stuck (ms)
--      6 whether the node may take the seat: 1, or 0 once it stops
-- Returns the seat's holder ('' for none), this server's time, then each node and what it saved.
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return {'retired'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local now_text = string.format('%d', now)
redis.call('HSET', KEYS[1], ARGV[1], now_text .. ' ' .. ARGV[2])

-- Cursors are too large for Lua's numbers, so their digits are compared.
local function is_before(one, other)
  return #one < #other or #one == #other and one < other
end
local holder = redis.call('GET', KEYS[3])
local is_gone = not holder or redis.call('HEXISTS', KEYS[1], holder) == 0 or redis.call('ZSCORE', KEYS[2], holder)
local progress = redis.call('HMGET', KEYS[5], 'position', 'moved')
local is_behind = progress[1] and is_before(progress[1], ARGV[4])
local is_stuck = is_behind and now - tonumber(progress[2] or '0') > tonumber(ARGV[5])
if ARGV[6] == '1' and (is_gone or is_stuck and holder ~= ARGV[1]) then
  holder = ARGV[1]
  redis.call('SET', KEYS[3], holder)
  redis.call('HSET', KEYS[5], 'moved', now_text)
end
if tonumber(ARGV[3]) > tonumber(redis.call('GET', KEYS[4]) or '0') then
  redis.call('SET', KEYS[4], ARGV[3])
end
local answer = {holder or '', now_text}
for _, value in ipairs(redis.call('HGETALL', KEYS[1])) do answer[#answer + 1] = value end
return answer
