-- Voids counted since the clock stood at {oldest}, of the tenants that live on this partition. Of rows with one key the
-- earliest stands; they are few, so that is seen to here and not by FINAL, which would merge all others too.
SELECT tenant, toUnixTimestamp64Milli(clock), dimensions
FROM usage_events
WHERE type = 'tallygate.void'
  AND kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND clock >= fromUnixTimestamp64Milli({oldest:Int64}, 'UTC')
ORDER BY version DESC
LIMIT 1 BY tenant, toStartOfHour(time), source, id
