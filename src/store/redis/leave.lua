-- Gives up the seat (who posts webhooks), if a node has it.
-- KEYS 1 seat   ARGV 1 node
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
