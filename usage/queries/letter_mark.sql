INSERT INTO dead_letter_marks (epoch, partition, offset, line, reason, action, by, at)
SELECT {epoch:UInt16}, {partition:UInt16}, {offset:UInt64}, {line:Int32}, {reason:String}, {action:String}, {by:String}, now64(3)
