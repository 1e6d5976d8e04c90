-- How many identities each bucket of the dedupe window holds, up to record {upto}, of the tenants that live on this
-- partition.
SELECT toInt64(intDiv(toUnixTimestamp64Milli(clock), {width:Int64})) AS bucket, toInt64(count())
FROM usage_events FINAL
WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND clock >= fromUnixTimestamp64Milli({oldest:Int64}, 'UTC')
GROUP BY bucket
