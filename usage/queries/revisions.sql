-- The revisions at which windows of a tenant stand; none for those never computed.
SELECT toInt64(toUnixTimestamp(hour) / 3600) AS number, max(revision)
FROM usage_windows
WHERE tenant = {tenant:String}
  AND hour IN (SELECT toDateTime(arrayJoin({hours:Array(UInt32)}) * 3600, 'UTC'))
GROUP BY number
