-- Every aggregation of every (tenant, meter) over [start, end), of the tenants that live on this partition, rows up to
-- record {upto}. Voided rows don't count: neither those marked on arrival nor those that a void up to {upto} took back. Distinct values come as they are: the writer hashes them.
SELECT
    tenant,
    meter,
    toString(sum(nanos)),
    toInt64(count()),
    toString(min(nanos)),
    toString(max(nanos)),
    argMax((toString(nanos), toUnixTimestamp64Milli(time), epoch, partition, toInt64(offset), line), (time, -toInt256(version))),
    if(has({unique:Array(String)}, meter), groupUniqArray({cap:UInt64})(uniques[meter]), [])
FROM usage_events FINAL
ARRAY JOIN mapKeys(quantities) AS meter, mapValues(quantities) AS nanos
WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
  AND voided = 0
  AND (tenant, version) NOT IN
  (
      SELECT tenant, target FROM usage_voids
      WHERE epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64})
  )
  AND time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
  AND has({meters:Array(String)}, meter)
  AND (empty({tenants:Array(String)}) OR has({tenants:Array(String)}, tenant))
GROUP BY tenant, meter
