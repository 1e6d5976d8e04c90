-- The last record of each partition of an epoch.
SELECT partition, toInt64(max(offset)), toUnixTimestamp64Milli(max(clock)), toUnixTimestamp64Milli(max(written))
FROM usage_frames
WHERE epoch = {epoch:UInt16}
GROUP BY partition
ORDER BY partition
