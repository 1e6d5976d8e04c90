-- Checksum, clock and closing mark of one record.
SELECT checksum, toUnixTimestamp64Milli(clock), closing
FROM usage_frames FINAL
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND offset = {offset:UInt64}
