-- Identities counted while the clock was in a bucket that is still live, of the tenants that live on this partition.
SELECT tenant, source, id, toUnixTimestamp64Milli(clock)
FROM usage_events FINAL
WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND clock >= fromUnixTimestamp64Milli({oldest:Int64}, 'UTC')
