-- Hold an amount of a feature if every limit has room for what is used, what is held and this.
-- KEYS: applied, holding, counters, holds and counted of the tenant, vouched, config, counted_terms (metering/keys.py).
-- ARGV: channel, tenant, feature, id, amount, ttl, longest ttl (ms), scale of the meter, most holds of the tenant, from
--   when until when (ms) what follows is so, the tenant's billing terms, then for each limit the field of its counter
--   and the most that fits (units; empty: not binding).
-- Answers {outcome, now, until, reserved, amount, counter texts...}; `until`: when the hold ends or, recovering, when
--   reservations begin again; `reserved`: what others hold. Outcomes: granted, again (held by this id already), refused,
--   conflict (this id holds another amount), counted (its usage is in already), too-many (holds), recovering, turned
--   (it is another time: ask about the limits of now).
-- A hold counts until everything that was accepted in its time is in the counters: while the writer is behind, that is
-- longer than its time.
-- A counter is kept for an hour after its period's end (metering/period.py: GRACE_MS).
-- Exact: every number is an integer below 2^53 or stands for one that is larger than any limit.
local MANY = 9007199254740992
local FORGOTTEN = 30 * 86400000
local KEPT = 3600000

local function text(number)
  return string.format('%.0f', number)
end

-- "12.5" at scale 3 -> 12500, or MANY
local function units(decimal, scale)
  local sign, whole, part = string.match(decimal, '^(%-?)(%d+)%.?(%d*)$')
  local number = tonumber(whole .. part .. string.rep('0', scale - #part))
  number = math.min(number, MANY)
  return sign == '-' and -number or number
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'recovering', text(now), text(now + 1000), '0', '0'}
end
if now < tonumber(ARGV[10]) or now >= tonumber(ARGV[11]) then
  return {'turned', text(now), text(now), '0', '0'}
end

-- Another server, or one begun anew, may lack what was held: until nothing of that can last, nothing is granted.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local mark = redis.call('HMGET', KEYS[2], 'run', 'since', 'latest')
if mark[1] ~= run then
  mark[2] = text(math.max(tonumber(mark[2] or '0'), now + tonumber(ARGV[7])))
  mark[3] = text(math.max(tonumber(mark[3] or '0'), now + tonumber(ARGV[7])))
  redis.call('HSET', KEYS[2], 'run', run, 'since', mark[2], 'latest', mark[3])
end
-- What was held and is lost may have been used until then: that has to be counted, not only over.
local counted_until = math.min(now, tonumber(redis.call('GET', KEYS[6]) or '0'))
if counted_until < tonumber(mark[2]) then
  return {'recovering', text(now), text(math.max(tonumber(mark[2]), now + 1000)), '0', '0'}
end
local prefix, amount, ttl = ARGV[3] .. ':', tonumber(ARGV[5]), tonumber(ARGV[6])
local own = prefix .. ARGV[4]
local reserved, mine, holds = 0, nil, 0
local all = redis.call('HGETALL', KEYS[4])
for at = 1, #all, 2 do
  local field, hold = all[at], all[at + 1]
  local held, expires = string.match(hold, '^%a+ (%d+) %d+ (%d+)$')
  if tonumber(expires) <= counted_until then
    redis.call('HDEL', KEYS[4], field)
  else
    holds = holds + 1
    if field == own then
      mine = hold
    elseif string.sub(field, 1, #prefix) == prefix then
      reserved = math.min(reserved + tonumber(held), MANY)
    end
  end
end

local fits = true
local texts = {}
for at = 13, #ARGV, 2 do
  -- Other terms may make other periods: their counters come with the writer, and those that stand here may be cut. But
  -- of a period that has just begun, of who has no counter at all, nothing is used: those of an hour ago would be there.
  local begins = ARGV[at + 1] ~= '' and string.match(ARGV[at], ':billing:(%d+)$')
  if begins and redis.call('HGET', KEYS[8], ARGV[2]) ~= ARGV[12] then
    if tonumber(begins) < now - KEPT or redis.call('EXISTS', KEYS[3]) == 1 then
      return {'recovering', text(now), text(now + 1000), '0', '0'}
    end
  end
  local used = redis.call('HGET', KEYS[3], ARGV[at])
  if not used then
    -- Nothing was used, or the catalog that has this limit is so new that the writer does not count for it yet.
    local kind = ' ' .. string.match(ARGV[at], '^(.*):') .. ' '
    if not string.find(redis.call('GET', KEYS[7]) or '', kind, 1, true) then
      return {'recovering', text(now), text(now + 1000), '0', '0'}
    end
    used = '0'
  end
  texts[#texts + 1] = used
  if ARGV[at + 1] ~= '' then
    local left = tonumber(ARGV[at + 1]) - units(used, tonumber(ARGV[8]))
    fits = fits and amount <= left - reserved
  end
end

local function answer(outcome, expires)
  return {outcome, text(now), expires, text(reserved), ARGV[5], unpack(texts)}
end

if redis.call('HEXISTS', KEYS[5], own) == 1 then
  return answer('counted', text(now))
end
if mine then
  local held, expires = string.match(mine, '^%a+ (%d+) %d+ (%d+)$')
  if tonumber(expires) <= now then
    return {'recovering', text(now), text(now + 1000), '0', '0'}
  end
  return answer(held == ARGV[5] and 'again' or 'conflict', expires)
end
if not fits then
  return answer('refused', text(now))
end
-- All of them are looked at each time: one tenant must not keep Redis busy for the others.
if holds >= tonumber(ARGV[9]) then
  return answer('too-many', text(now))
end
local expires = text(now + ttl)
local hold = 'held ' .. ARGV[5] .. ' ' .. ARGV[6] .. ' ' .. expires
redis.call('HSET', KEYS[4], own, hold)
-- Commit may keep it as long again; a tenant that never comes back leaves nothing behind, but not while a writer that
-- stands still over some holidays may have to count it.
local latest = math.max(tonumber(mark[3]), now + 2 * ttl)
redis.call('HSET', KEYS[2], 'latest', text(latest))
redis.call('PEXPIREAT', KEYS[4], text(latest + FORGOTTEN))
local number = redis.call('HINCRBY', KEYS[2], 'number', 1)
redis.call('PUBLISH', ARGV[1], number .. ' ' .. ARGV[2] .. ' ' .. own .. ' ' .. hold)
return answer('granted', expires)
