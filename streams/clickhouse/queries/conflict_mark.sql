-- Up to which record duplicates were compared, -1 where none were.
SELECT if(count() = 0, -1, toInt64(max(offset)))
FROM conflict_marks
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
