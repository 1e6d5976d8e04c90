-- The last record that is accounted for, -1 for none: what stands above it may still be under way.
SELECT if(count() = 0, -1, toInt64(max(offset)))
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
