-- Up to which record of the given (epoch, partition) every window was computed; none where none was.
SELECT epoch, partition, toInt64(max(offset))
FROM usage_rollup_marks
WHERE (epoch, partition) IN (SELECT p.1, p.2 FROM (SELECT arrayJoin({places:Array(Tuple(UInt16, UInt16))}) AS p))
GROUP BY epoch, partition
