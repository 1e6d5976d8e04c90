-- Up to which record every window touched was computed, -1 where none was.
SELECT if(count() = 0, -1, toInt64(max(offset)))
FROM usage_rollup_marks
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
