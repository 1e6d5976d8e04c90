-- The clock at the end of everything before this epoch, in ms. What stands behind a partition's closing frame moved on to
-- another epoch: it may come at any time, so the clock must not depend on it.
SELECT toUnixTimestamp64Milli(max(clock))
FROM usage_frames
LEFT JOIN
(
    SELECT epoch, partition, min(offset) + 1 AS upto FROM usage_frames WHERE closing = 1 GROUP BY epoch, partition
) AS ends USING (epoch, partition)
WHERE epoch < {epoch:UInt16} AND (upto = 0 OR offset < upto)
