-- Of these records, those that have two rows for one event: its key was changed, or another stands at its position.
SELECT toInt64(offset) AS at
FROM usage_events FINAL
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
  AND version >= {last_version:UInt64} AND version <= {first_version:UInt64}
  AND offset IN (SELECT arrayJoin({offsets:Array(UInt64)}))
GROUP BY at
HAVING count() != uniqExact(line)
ORDER BY at
