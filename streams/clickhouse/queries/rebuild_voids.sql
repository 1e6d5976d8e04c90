-- Voids counted since the clock stood at {oldest}, of the tenants that live on this partition.
SELECT tenant, toUnixTimestamp64Milli(clock), dimensions
FROM usage_events FINAL
WHERE type = 'tallygate.void'
  AND kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND clock >= fromUnixTimestamp64Milli({oldest:Int64}, 'UTC')
