-- Every aggregation of every (tenant, meter) over [start, end), of the tenants that live on this partition, rows up to
-- record {upto}. Voided rows don't count: neither those marked on arrival nor those that a void up to {upto} took back. Distinct
-- values come as they are: the writer hashes them. What is compared for each row is one number: a tuple costs twice as much.
SELECT
    tenant,
    meter,
    toString(sum(nanos)),
    toInt64(count()),
    toString(min(nanos)),
    toString(max(nanos)),
    (
        toString(argMax(nanos, moment)),
        toInt64(bitShiftRight(max(moment), 64)),
        toUInt16(bitShiftRight(toUInt64(max(moment)), 50)),
        argMax(partition, moment),
        toInt64(bitAnd(bitShiftRight(toUInt64(max(moment)), 14), 68719476735)),
        toUInt16(bitAnd(toUInt64(max(moment)), 16383))
    ),
    if(has({unique:Array(String)}, meter), groupUniqArray({cap:UInt64})(uniques[meter]), [])
FROM
(
    SELECT
        tenant,
        partition,
        quantities,
        uniques,
        -- Milliseconds, then 64 bits of position: the greatest is the latest.
        bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(time)), 64), bitNot(version)) AS moment
    FROM usage_events FINAL
    WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
      AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
      AND voided = 0
      AND (tenant, version) NOT IN
      (
          SELECT tenant, target FROM usage_voids
          WHERE epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64})
      )
      AND time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
      AND (empty({tenants:Array(String)}) OR has({tenants:Array(String)}, tenant))
)
ARRAY JOIN mapKeys(quantities) AS meter, mapValues(quantities) AS nanos
WHERE has({meters:Array(String)}, meter)
GROUP BY tenant, meter
