INSERT INTO conflict_marks (epoch, partition, offset) SELECT {epoch:UInt16}, {partition:UInt16}, {upto:UInt64}
