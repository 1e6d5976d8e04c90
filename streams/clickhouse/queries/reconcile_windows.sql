-- Windows that a record up to {upto} touched after they were computed, or that never were.
WITH computed AS (SELECT tenant, hour, max(revision) AS standing FROM usage_windows GROUP BY tenant, hour)
SELECT touched.tenant, toInt64(touched.number)
FROM
(
    SELECT tenant, hour AS number, max(offset) AS last
    FROM usage_frames
    ARRAY JOIN hours AS hour
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
    GROUP BY tenant, number
) AS touched
LEFT JOIN computed ON computed.tenant = touched.tenant
    AND computed.hour = toDateTime(touched.number * 3600, 'UTC')
WHERE computed.standing < bitOr(bitShiftLeft(toUInt64({epoch:UInt16}), 36), touched.last)
ORDER BY touched.tenant, touched.number
