-- How many records after {mark} up to {upto} are accounted for.
SELECT toInt64(uniqExact(offset))
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
  AND toInt64(offset) > {mark:Int64} AND toInt64(offset) <= {upto:Int64}
