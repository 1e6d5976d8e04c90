-- Tell readers whose snapshots were written. KEYS: changed, changes; ARGV: tenants. The number is drawn here, in the step that
-- makes it visible, so that who knows everything up to a number misses nothing that comes with a later one. After a flush
-- it begins at the time of day, in ms: above all that were drawn before.
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SET', KEYS[2], string.format('%.0f', redis.call('TIME')[1] * 1000))
end
local number = redis.call('INCR', KEYS[2])
for at = 1, #ARGV do
  redis.call('ZADD', KEYS[1], number, ARGV[at])
end
return number
