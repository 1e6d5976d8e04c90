-- Rows and the frames' account of them, up to record {upto} of this partition and over all earlier epochs.
SELECT
    (SELECT uniqExact(offset, line) FROM usage_events
     WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})
  + (SELECT uniqExact(epoch, partition, offset, line) FROM usage_events WHERE epoch < {epoch:UInt16})
  + (SELECT uniqExact(tenant, target, version) FROM usage_voids
     WHERE epoch < {epoch:UInt16}
        OR (epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})),
    (SELECT sum(counted + voided + voids) FROM usage_frames FINAL
     WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})
  + (SELECT sum(counted + voided + voids) FROM usage_frames FINAL WHERE epoch < {epoch:UInt16})
