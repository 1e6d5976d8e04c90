-- The windows that records {next} to {upto} touch, and the first record to do so.
SELECT tenant, toInt64(hour), toInt64(min(offset))
FROM usage_frames
ARRAY JOIN hours AS hour
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
  AND offset >= {next:UInt64} AND offset <= {upto:UInt64}
GROUP BY tenant, hour
