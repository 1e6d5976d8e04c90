-- Every (meter, subject, dimensions) of the given windows, from the rows up to {revision}. Rows that don't count are left
-- out, those that a void up to there took back among them. The times are those of the first and the last window: they
-- name the months to look into. What is compared for each row is one number: a tuple or a map costs twice as much.
INSERT INTO usage_hourly
    (tenant, meter, hour, subject, dimensions, revision, total, events, least, greatest, latest, distinct)
SELECT
    tenant,
    meter,
    hour,
    subject,
    any(sorted),
    {revision:UInt64},
    sum(nanos),
    count(),
    min(nanos),
    max(nanos),
    (fromUnixTimestamp64Milli(toInt64(bitShiftRight(max(moment), 64)), 'UTC'), toUInt64(max(moment)), argMax(nanos, moment)),
    arraySort(groupUniqArrayIf(uniques[meter], mapContains(uniques, meter)))
FROM
(
    SELECT
        tenant,
        toStartOfHour(usage_events.time) AS hour,
        subject,
        mapSort(dimensions) AS sorted,
        -- With the lengths no two maps look alike.
        arrayStringConcat(arrayMap(
            (name, value) -> concat(toString(length(name)), ':', name, toString(length(value)), ':', value),
            mapKeys(sorted), mapValues(sorted))) AS alike,
        quantities,
        uniques,
        -- Milliseconds, then 64 bits of position: the greatest is the latest.
        bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(usage_events.time)), 64), bitNot(version)) AS moment
    FROM usage_events FINAL
    WHERE (tenant, toStartOfHour(usage_events.time)) IN
        (SELECT w.1, toDateTime(w.2 * 3600, 'UTC') FROM (SELECT arrayJoin({windows:Array(Tuple(String, UInt32))}) AS w))
      AND usage_events.time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
      AND usage_events.time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
      AND voided = 0
      AND (tenant, version) NOT IN
          (SELECT tenant, target FROM usage_voids WHERE bitShiftRight(bitNot(version), 14) <= {revision:UInt64})
      AND bitShiftRight(bitNot(version), 14) <= {revision:UInt64}
)
ARRAY JOIN mapKeys(quantities) AS meter, mapValues(quantities) AS nanos
GROUP BY tenant, meter, hour, subject, alike
