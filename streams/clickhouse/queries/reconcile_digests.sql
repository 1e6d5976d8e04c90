-- How many identities each bucket of the dedupe window holds, up to record {upto}, of the tenants that live on this
-- partition: by the account of the records, which has been compared with the rows.
SELECT toInt64(intDiv(toUnixTimestamp64Milli(clock), {width:Int64})) AS bucket, toInt64(sum(counted + voided))
FROM usage_frames FINAL
WHERE ((epoch < {epoch:UInt16} AND kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32})
    OR (epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND clock >= fromUnixTimestamp64Milli({oldest:Int64}, 'UTC')
GROUP BY bucket
HAVING sum(counted + voided) > 0
