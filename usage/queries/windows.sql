-- Every aggregation of one meter of one tenant for each of the periods that begin at {starts}, the last of them ending at
-- {end}, by the value of one dimension (or all in one): from rollups, and of {hours} from the ledger. Ordered by start
-- and value, those behind ({after}, {after_value}).
WITH
    newest AS
    (
        SELECT hour, max(revision) AS standing
        FROM usage_windows
        WHERE tenant = {tenant:String}
          AND hour >= toStartOfHour(fromUnixTimestamp64Milli({start:Int64}, 'UTC'))
          AND hour < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
        GROUP BY hour
    ),
    from_ledger AS (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}) * 3600, 'UTC') AS hour),
    states AS
    (
        SELECT
            toInt64(toUnixTimestamp(rollups.hour)) * 1000 AS at,
            subject,
            dimensions,
            total,
            events,
            least,
            greatest,
            (latest.time, latest.position, latest.quantity) AS last,
            distinct
        FROM (SELECT * FROM usage_hourly FINAL
              WHERE tenant = {tenant:String} AND meter = {meter:String}
                AND hour >= toStartOfHour(fromUnixTimestamp64Milli({start:Int64}, 'UTC'))
                AND hour < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
                AND hour NOT IN (SELECT hour FROM from_ledger)) AS rollups
        INNER JOIN newest ON rollups.hour = newest.hour
        WHERE rollups.revision >= newest.standing
        UNION ALL
        SELECT
            toUnixTimestamp64Milli(usage_events.time) AS at,
            subject,
            dimensions,
            quantities[{meter:String}] AS total,
            toUInt64(1) AS events,
            total AS least,
            total AS greatest,
            (usage_events.time, bitNot(version), total) AS last,
            if(mapContains(uniques, {meter:String}), [uniques[{meter:String}]], []) AS distinct
        FROM usage_events FINAL
        WHERE tenant = {tenant:String}
          AND toStartOfHour(usage_events.time) IN (SELECT hour FROM from_ledger)
          AND usage_events.time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
          AND usage_events.time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
          AND voided = 0
          AND version NOT IN (SELECT target FROM usage_voids WHERE tenant = {tenant:String})
          AND mapContains(quantities, {meter:String})
    )
SELECT
    toInt64(roundDown(at, {starts:Array(Int64)})) AS start,
    if({group_by:String} = '', '', dimensions[{group_by:String}]) AS value,
    toString(sum(total)),
    toInt64(sum(events)),
    toString(min(least)),
    toString(max(greatest)),
    toString(max(last).3),
    toInt64(uniqExactArray(distinct))
FROM states
WHERE (empty({subjects:Array(String)}) OR has({subjects:Array(String)}, subject))
  AND arrayAll(wanted -> has(wanted.2, dimensions[wanted.1]), {filters:Array(Tuple(String, Array(String)))})
GROUP BY start, value
HAVING start > {after:Int64} OR (start = {after:Int64} AND value > {after_value:String})
ORDER BY start, value
LIMIT {limit:UInt32}
