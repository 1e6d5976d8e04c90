-- Remember that everything up to {upto} was found, but for the last minutes: what was written then may not yet be on the
-- disk, and a power cut could take rows and leave the mark.
INSERT INTO usage_marks (epoch, partition, offset)
SELECT {epoch:UInt16}, {partition:UInt16}, max(offset)
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64}
  AND written <= now64(3) - INTERVAL 10 MINUTE
HAVING count() > 0
