-- The records of a partition from {first} on: how many, the last of them, the clock after it, and the hours of one tenant
-- that they touch with the last record to do so.
WITH maxMapIf(hours, arrayMap(hour -> offset, hours), tenant = {tenant:String}) AS touched
SELECT toInt64(groupBitmap(offset)), toInt64(max(offset)), toUnixTimestamp64Milli(max(clock)), touched.1, touched.2
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND offset >= {first:UInt64}
