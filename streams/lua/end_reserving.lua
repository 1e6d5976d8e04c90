-- Let nothing more be reserved in a partition that a new epoch replaces.
-- KEYS: holding (metering/keys.py). ARGV: the longest that a hold can last (ms), an instant that never comes.
-- Answers the last instant (ms) at which one of its holds can end. Safe to repeat.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
local mark = redis.call('HMGET', KEYS[1], 'run', 'latest')
local latest = tonumber(mark[2] or '0')
if mark[1] ~= run or not mark[2] then
  latest = math.max(latest, now + tonumber(ARGV[1]))
end
local text = string.format('%.0f', latest)
redis.call('HSET', KEYS[1], 'run', run, 'since', ARGV[2], 'latest', text)
return text
