-- The months of event time in which payloads stand that are to be gone. Nothing was received long before its time, so
-- later months are not looked at.
SELECT DISTINCT toString(toYYYYMM(time)) AS month
FROM usage_events
WHERE time < fromUnixTimestamp64Milli({newest:Int64}) + INTERVAL 1 DAY
  AND received < fromUnixTimestamp64Milli(transform(tenant, {tenants:Array(String)}, {cutoffs:Array(Int64)}, {otherwise:Int64}))
  AND event != ''
ORDER BY month
