-- The verified mark, -1 where there is none or where the frames up to it are not all there any more.
WITH (
    SELECT if(count() = 0, -1, toInt64(max(offset)))
    FROM usage_marks
    WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
) AS mark
SELECT if(toInt64(uniqExact(offset)) = mark + 1, mark, -1)
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) <= mark
