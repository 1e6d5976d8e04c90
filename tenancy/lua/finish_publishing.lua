-- KEYS: snapshots, publishing; ARGV: token, change number. 1 if the lease was still the caller's, so all it wrote stands.
-- A flush meanwhile took the lease with the snapshots; a lease that ran out may have passed to another publisher.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
return 1
