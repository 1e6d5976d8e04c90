INSERT INTO usage_rollup_marks (epoch, partition, offset)
SELECT {epoch:UInt16}, {partition:UInt16}, {offset:UInt64}
