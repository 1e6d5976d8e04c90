-- Every (meter, subject, dimensions) of the given windows, from the rows up to {revision}. Rows that don't count are left
-- out, those that a void up to there took back among them. The times are those of the first and the last window: they
-- name the months to look into.
INSERT INTO usage_hourly
    (tenant, meter, hour, subject, dimensions, revision, total, events, least, greatest, latest, distinct)
SELECT
    tenant,
    meter,
    toStartOfHour(usage_events.time) AS hour,
    subject,
    mapSort(dimensions) AS sorted,
    {revision:UInt64},
    sum(nanos),
    count(),
    min(nanos),
    max(nanos),
    max((usage_events.time, bitNot(version), nanos)),
    arraySort(groupUniqArrayIf(uniques[meter], mapContains(uniques, meter)))
FROM usage_events FINAL
ARRAY JOIN mapKeys(quantities) AS meter, mapValues(quantities) AS nanos
WHERE (tenant, toStartOfHour(usage_events.time)) IN
    (SELECT w.1, toDateTime(w.2 * 3600, 'UTC') FROM (SELECT arrayJoin({windows:Array(Tuple(String, UInt32))}) AS w))
  AND usage_events.time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
  AND usage_events.time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
  AND voided = 0
  AND (tenant, version) NOT IN
      (SELECT tenant, target FROM usage_voids WHERE bitShiftRight(bitNot(version), 14) <= {revision:UInt64})
  AND bitShiftRight(bitNot(version), 14) <= {revision:UInt64}
GROUP BY tenant, meter, hour, subject, sorted
