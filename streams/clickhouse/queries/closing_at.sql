-- Where this partition of the epoch was closed: offset of its closing frame, -1 while it is open.
SELECT if(count() = 0, -1, toInt64(min(offset)))
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND closing = 1
