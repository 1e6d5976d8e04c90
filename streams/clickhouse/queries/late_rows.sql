-- Rows that stand at the given ledger keys, and (last, with an empty tenant) how many records after {mark} up to {upto}
-- are accounted for, seen by the same query.
SELECT tenant, toInt64(toUnixTimestamp(toStartOfHour(time)) / 3600) AS hour, source, id, epoch, toInt64(offset), line
FROM usage_events FINAL
WHERE (tenant, toStartOfHour(time), source, id) IN
    (SELECT k.1, toDateTime(k.2 * 3600, 'UTC'), k.3, k.4
     FROM (SELECT arrayJoin({keys:Array(Tuple(String, UInt32, String, String))}) AS k))
UNION ALL
SELECT '', 0, '', '', 0, toInt64(uniqExact(offset)), 0
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
  AND toInt64(offset) > {mark:Int64} AND toInt64(offset) <= {upto:Int64}
