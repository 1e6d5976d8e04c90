-- Rows counted by catalogs before {version} that lack a meter, of the tenants that live on this partition.
SELECT tenant, event, toUnixTimestamp64Milli(received), toUnixTimestamp64Milli(clock), catalog_version, voided,
       epoch, partition, toInt64(offset), line, toInt64(toUnixTimestamp(time) / 3600)
FROM usage_events FINAL
WHERE type = {type:String} AND NOT mapContains(quantities, {meter:String}) AND catalog_version < {version:UInt32}
  AND kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
