-- Step 4: apply one batch if the state is exactly where the writer expects it, and counted as it counts; else change
-- nothing.
-- KEYS[1] applied, KEYS[2] config; KEYS[3..] the keys that the operations name by index.
-- ARGV[1] expected offset, ARGV[2] expected config, ARGV[3..5] offset, checksum and clock to set, then operations:
--   command, index of its key, number of arguments, arguments...
-- No arithmetic: every value comes from the writer. `applied` goes first and comes back last, so that a script that
-- fails half-way (memory) leaves a state that says it is none, and is rebuilt.
if redis.call('HGET', KEYS[1], 'offset') ~= ARGV[1] or redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
local at = 6
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
redis.call('HSET', KEYS[1], 'offset', ARGV[3], 'checksum', ARGV[4], 'clock', ARGV[5])
return 1
