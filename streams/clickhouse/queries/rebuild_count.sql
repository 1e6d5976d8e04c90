-- Rows and the frames' account of them, up to record {upto} of this partition and over all earlier epochs. Of an epoch that was
-- given up, rows may stand behind its end: a writer had written them when its log was lost, and nobody will vouch for them.
WITH
    ends AS
    (
        SELECT epoch, partition, min(offset) + 1 AS upto FROM usage_frames WHERE closing = 1 GROUP BY epoch, partition
    ),
    earlier_rows AS (SELECT epoch, partition, offset, line FROM usage_events WHERE epoch < {epoch:UInt16}),
    earlier_voids AS (SELECT epoch, partition, offset, tenant, target, version FROM usage_voids WHERE epoch < {epoch:UInt16})
SELECT
    (SELECT uniqExact(offset, line) FROM usage_events
     WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})
  + (SELECT uniqExact(tenant, target, version) FROM usage_voids
     WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})
  + (SELECT uniqExact(epoch, partition, offset, line) FROM earlier_rows LEFT JOIN ends USING (epoch, partition)
     WHERE ends.upto = 0 OR offset < ends.upto)
  + (SELECT uniqExact(tenant, target, version) FROM earlier_voids LEFT JOIN ends USING (epoch, partition)
     WHERE ends.upto = 0 OR offset < ends.upto),
    (SELECT sum(counted + voided + voids) FROM usage_frames FINAL
     WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= {upto:Int64})
  + (SELECT sum(counted + voided + voids) FROM usage_frames FINAL WHERE epoch < {epoch:UInt16})
