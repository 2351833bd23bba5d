-- Gives a node the seat of a webhook (who posts for it), if the holder is gone or stuck. sign.lua does the same for the
-- webhook without a name.
-- KEYS 1 nodes  2 gone  3 seat  4 the webhook's progress
-- ARGV 1 node  2 the log's head  3 how long a holder may be stuck (ms)
-- Returns the seat's holder.
local function is_before(one, other)
  return #one < #other or #one == #other and one < other
end
local holder = redis.call('GET', KEYS[3])
if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return holder or '' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local is_gone = not holder or redis.call('HEXISTS', KEYS[1], holder) == 0 or redis.call('ZSCORE', KEYS[2], holder)
local progress = redis.call('HMGET', KEYS[4], 'position', 'moved')
local is_behind = progress[1] and is_before(progress[1], ARGV[2])
local is_stuck = is_behind and now - tonumber(progress[2] or '0') > tonumber(ARGV[3])
if is_gone or is_stuck and holder ~= ARGV[1] then
  holder = ARGV[1]
  redis.call('SET', KEYS[3], holder)
  redis.call('HSET', KEYS[4], 'moved', string.format('%d', now))
end
return holder
