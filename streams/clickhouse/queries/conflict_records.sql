-- The next records behind {after} that repeat events, up to {upto}, and the clock after each.
SELECT toInt64(offset), toUnixTimestamp64Milli(clock)
FROM usage_frames FINAL
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND duplicates > 0
  AND toInt64(offset) > {after:Int64} AND toInt64(offset) <= {upto:Int64}
ORDER BY offset
LIMIT {most:UInt32}
