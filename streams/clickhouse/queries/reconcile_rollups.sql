-- Windows whose rows say something else than the ledger up to the window's own revision, of the tenants that live on this
-- partition. What stands for many rows is compared by sums that no two sets of rows share by chance.
WITH
    computed AS
    (
        SELECT tenant, hour, max(revision) AS standing
        FROM usage_windows
        WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
        GROUP BY tenant, hour
    ),
    taken_back AS
    (
        SELECT tenant, target, min(bitShiftRight(bitNot(version), 14)) AS at
        FROM usage_voids
        WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32}
        GROUP BY tenant, target
    ),
    counted AS
    (
        SELECT events.tenant AS tenant, events.hour AS hour, events.at AS at, events.version AS version,
               events.subject AS subject, events.dimensions AS dimensions, events.quantities AS quantities,
               events.uniques AS uniques
        FROM
        (
            SELECT tenant, toStartOfHour(time) AS hour, time AS at, version, subject, dimensions, quantities, uniques
            FROM usage_events FINAL
            WHERE (tenant, toStartOfHour(time)) IN (SELECT tenant, hour FROM computed) AND voided = 0
        ) AS events
        INNER JOIN computed ON computed.tenant = events.tenant AND computed.hour = events.hour
        LEFT JOIN taken_back ON taken_back.tenant = events.tenant AND taken_back.target = events.version
        WHERE bitShiftRight(bitNot(events.version), 14) <= computed.standing
          AND (taken_back.target = 0 OR taken_back.at > computed.standing)
    )
SELECT tenant, toInt64(toUnixTimestamp(hour) / 3600)
FROM
(
    SELECT rollups.tenant AS tenant, meter, rollups.hour AS hour, sum(total) AS sum_of_all, sum(events) AS number,
           min(least) AS smallest, max(greatest) AS largest, max(latest) AS last, uniqExactArray(distinct) AS different,
           sum(cityHash64(subject, mapSort(dimensions)) * events) AS spread, 1 AS side
    FROM (SELECT * FROM usage_hourly FINAL WHERE kafkaMurmurHash(tenant) % {partitions:UInt32} = {partition:UInt32})
        AS rollups
    INNER JOIN computed ON computed.tenant = rollups.tenant AND computed.hour = rollups.hour
    WHERE rollups.revision >= computed.standing
    GROUP BY tenant, meter, hour
    UNION ALL
    SELECT tenant, meter, hour, sum(nanos), count(), min(nanos), max(nanos), max((at, bitNot(version), nanos)),
           uniqExactIf(uniques[meter], mapContains(uniques, meter)), sum(cityHash64(subject, mapSort(dimensions))), -1
    FROM counted
    ARRAY JOIN mapKeys(quantities) AS meter, mapValues(quantities) AS nanos
    GROUP BY tenant, meter, hour
)
GROUP BY tenant, meter, hour, sum_of_all, number, smallest, largest, last, different, spread
HAVING sum(side) != 0
ORDER BY tenant, hour
