-- How many partitions of an epoch have accounted for their closing frame.
SELECT toInt64(uniqExact(partition)) FROM usage_frames WHERE epoch = {epoch:UInt16} AND closing = 1
