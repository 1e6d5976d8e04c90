-- End a hold (release), or keep it for its usage event (commit).
-- KEYS: holding, holds and counted of the tenant (metering/keys.py).
-- ARGV: channel, tenant, field of the hold, 'commit' or 'release', amount in units (commit; empty: all that is held).
-- Answers {outcome, amount, until (ms)}. Outcomes: committed, counted (its usage is in), released, unknown,
--   conflict (committed with another amount), too-much (more than is held).
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function tell(hold)
  local number = redis.call('HINCRBY', KEYS[1], 'number', 1)
  redis.call('PUBLISH', ARGV[1], number .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. hold)
end

local hold = redis.call('HGET', KEYS[2], ARGV[3])
if redis.call('HEXISTS', KEYS[3], ARGV[3]) == 1 then
  return {'counted', '0', '0'}
end
local state, held, ttl, expires
if hold then
  state, held, ttl, expires = string.match(hold, '^(%a+) (%d+) (%d+) (%d+)$')
end
if not hold or tonumber(expires) <= now then
  return {'unknown', '0', '0'}
end
if ARGV[4] == 'release' then
  redis.call('HDEL', KEYS[2], ARGV[3])
  tell('')
  return {'released', held, expires}
end
local amount = ARGV[5] == '' and held or ARGV[5]
if state == 'committed' then
  return {amount == held and 'committed' or 'conflict', held, expires}
end
if tonumber(amount) > tonumber(held) then
  return {'too-much', held, expires}
end
expires = string.format('%.0f', now + tonumber(ttl))
local kept = 'committed ' .. amount .. ' ' .. ttl .. ' ' .. expires
redis.call('HSET', KEYS[2], ARGV[3], kept)
tell(kept)
return {'committed', amount, expires}
