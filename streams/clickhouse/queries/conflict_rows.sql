-- What was counted under these names, the earliest of each: in these hours, or (no hours) whenever it was.
SELECT source, id, event, epoch, partition, toInt64(offset), line, version
FROM usage_events FINAL
WHERE tenant = {tenant:String}
  AND (empty({hours:Array(UInt32)})
       OR toStartOfHour(time) IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}) * 3600, 'UTC')))
  AND (source, id) IN (SELECT n.1, n.2 FROM (SELECT arrayJoin({names:Array(Tuple(String, String))}) AS n))
ORDER BY version DESC
LIMIT 1 BY source, id
