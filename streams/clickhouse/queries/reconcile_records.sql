-- Records up to {upto} whose account is missing, does not add up, or speaks of other rows than there are, in order:
-- offset, whether it has a frame, whether only the number of rows is in doubt (a repeat that is not merged yet looks like
-- a row too many).
SELECT toInt64(at), toUInt8(sum(frames) = 1) AS framed,
       toUInt8(sum(wrong) = 0 AND sum(rows) = sum(found) AND sum(voids) = sum(found_voids) AND sum(dead) = sum(found_dead))
FROM
(
    SELECT number AS at, 0 AS frames, 0 AS wrong, 0 AS rows, 0 AS found, 0 AS many, 0 AS voids, 0 AS found_voids,
           0 AS dead, 0 AS found_dead
    FROM numbers(toUInt64({upto:Int64} + 1))
    UNION ALL
    SELECT offset, 1, counted + duplicates + voided + usage_frames.dead != events, counted + voided, 0, 0,
           usage_frames.voids, 0, usage_frames.dead, 0
    FROM usage_frames FINAL
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
    UNION ALL
    SELECT offset AS at, 0, 0, 0, uniqExact(line), count(), 0, 0, 0, 0
    FROM usage_events
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
    GROUP BY at
    UNION ALL
    SELECT offset AS at, 0, 0, 0, 0, 0, 0, uniqExact(tenant, target, version), 0, 0
    FROM usage_voids
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
    GROUP BY at
    UNION ALL
    SELECT offset AS at, 0, 0, 0, 0, 0, 0, 0, 0, uniqExact(line, reason)
    FROM dead_letters
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
      AND reason != 'conflict'
    GROUP BY at
)
GROUP BY at
HAVING sum(frames) != 1 OR sum(wrong) != 0 OR sum(rows) != sum(found) OR sum(found) != sum(many)
    OR sum(voids) != sum(found_voids) OR sum(dead) != sum(found_dead)
ORDER BY at
LIMIT {most:UInt32}
