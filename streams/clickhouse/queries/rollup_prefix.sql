-- How many records follow each other from {next} on without a gap (at most {most}), and the clock after the last of them.
WITH numbered AS
(
    SELECT offset AS at, row_number() OVER (ORDER BY at) AS number, max(usage_frames.clock) AS after
    FROM usage_frames
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
      AND offset >= {next:UInt64} AND offset < {next:UInt64} + {most:UInt64}
    GROUP BY at
)
SELECT toInt64(countIf(at + 1 = {next:UInt64} + number)),
       toUnixTimestamp64Milli(maxIf(after, at + 1 = {next:UInt64} + number))
FROM numbered
