-- Write one user's tree, atomically, if it is still as the caller saw it; see store/put_tree.py.
--
-- KEYS: the tree, the user's states. ARGV: '=' and the clock seen (or 'none' = there was no tree, 'any' = replace what there is), the
-- total seen, the new total, behaviours put in, time to live in s (0 = none), how many fields go, those fields, then field, value, ...
-- Returns 1 = written, 0 = the tree is another one by now, and nothing was written.

local FIELDS = 2000 -- of one call: what Lua can unpack is limited
local tree, states = KEYS[1], KEYS[2]
local seen, total, added, ttl, gone = ARGV[1], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local clock
if seen == 'none' then
  if redis.call('EXISTS', tree) == 1 then return 0 end
elseif seen == 'any' then
  redis.call('DEL', tree)
else
  local now = redis.call('HMGET', tree, 'a', 't')
  if '=' .. (now[1] or '') ~= seen or (now[2] or '') ~= ARGV[2] then return 0 end
  clock = tonumber(now[1] or '')
end
if not clock then
  local time = redis.call('TIME')
  clock = time[1] * 1000000 + time[2]
end

for first = 7, 6 + gone, FIELDS do
  redis.call('HDEL', tree, unpack(ARGV, first, math.min(first + FIELDS - 1, 6 + gone)))
end
for first = 7 + gone, #ARGV, FIELDS do
  redis.call('HSET', tree, unpack(ARGV, first, math.min(first + FIELDS - 1, #ARGV)))
end
redis.call('HSET', tree, 't', total, 'a', string.format('%.0f', clock + added))
redis.call('DEL', states) -- snapshots were of another tree
if ttl > 0 then redis.call('EXPIRE', tree, ttl) elseif redis.call('TTL', tree) > 0 then redis.call('PERSIST', tree) end
return 1
