-- The rows that bear an id, the earliest first: source, time, type, and whether they stand.
SELECT
    source, toUnixTimestamp64Milli(time), type,
    voided = 0 AND version NOT IN (SELECT target FROM usage_voids WHERE tenant = {tenant:String})
FROM usage_events FINAL
WHERE tenant = {tenant:String} AND id = {id:String} AND ({source:String} = '' OR source = {source:String})
ORDER BY time, source
LIMIT 100
