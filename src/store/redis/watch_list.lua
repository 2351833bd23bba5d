-- Replaces a user's watch list, unless another node has changed it, and tells the other nodes.
-- KEYS 1 list  2 place  3 gone  4 feed
-- ARGV 1 node  2 expected revision ('' for no list)  3 new revision and list ('' deletes it)  4 message
local now = server_ms()
if redis.call('ZSCORE', KEYS[3], ARGV[1]) then return {'retired'} end
local old = redis.call('GET', KEYS[1])
if (old and string.sub(old, 1, 16) or '') ~= ARGV[2] then return {'conflict'} end
if ARGV[3] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[3]) end
local ms, sq, n, b, w, begin, last = read_place(KEYS[2], now)
w = w + 1
redis.call('SPUBLISH', KEYS[4], string.format('%d %s ', w, ARGV[1]) .. ARGV[4])
return {'ok', write_place(KEYS[2], ms, sq, n, b, w, begin, last)}
