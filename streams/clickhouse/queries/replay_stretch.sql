-- The first and the last record that was counted while the clock stood in [start, end); -1 without any. Closing frames are
-- left out: what closed an epoch after a halt stands in no log.
SELECT if(count() = 0, -1, toInt64(min(offset))), if(count() = 0, -1, toInt64(max(offset)))
FROM usage_frames FINAL
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND closing = 0
  AND clock >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND clock < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
