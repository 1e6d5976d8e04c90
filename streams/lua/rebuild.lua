-- One chunk of a rebuild, refused unless the token and the number of the chunk before stand there: a rebuild that was
-- overtaken by another can't mix its state into it.
-- KEYS[1] rebuild, KEYS[2] applied, KEYS[3..] keys that the operations name by index.
-- ARGV[1] token, ARGV[2] chunk before, ARGV[3] this chunk ('done' for the last), ARGV[4..6] offset, checksum and clock
-- (set by the last chunk only), then operations as in apply.lua.
if redis.call('GET', KEYS[1]) ~= ARGV[1] .. ':' .. ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[2])
local at = 7
while at <= #ARGV do
  local command, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  at = at + 3
  if count == 0 then
    redis.call(command, key)
  end
  for first = at, at + count - 1, 4000 do
    redis.call(command, key, unpack(ARGV, first, math.min(first + 3999, at + count - 1)))
  end
  at = at + count
end
if ARGV[3] == 'done' then
  redis.call('HSET', KEYS[2], 'offset', ARGV[4], 'checksum', ARGV[5], 'clock', ARGV[6])
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[3])
end
return 1
