-- Finds a dashboard login; returns its key and how long it still lives (ms), or nothing.
-- KEYS 1 logins   ARGV 1 login
local ends, key = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+) (.*)$')
if not ends then return {} end
local time = redis.call('TIME')
local left = tonumber(ends) - time[1] * 1000 - math.floor(time[2] / 1000)
if left <= 0 then return {} end
return {key, string.format('%d', left)}
