-- Dead letters, the newest first, behind a cursor, with what was done with them last.
SELECT
    letters.epoch, letters.partition, toInt64(letters.offset), letters.line, letters.reason, tenant, detail,
    payload, toUnixTimestamp64Milli(received), toUnixTimestamp64Milli(clock), action, by, toUnixTimestamp64Milli(at)
FROM
(
    SELECT *
    FROM dead_letters FINAL
    WHERE ({everybody:Bool} OR tenant = {tenant:String})
      AND ({reason:String} = '' OR reason = {reason:String})
      AND clock >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND clock < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
) AS letters
LEFT JOIN (SELECT * FROM dead_letter_marks FINAL) AS marks
    ON marks.epoch = letters.epoch AND marks.partition = letters.partition AND marks.offset = letters.offset
    AND marks.line = letters.line AND marks.reason = letters.reason
WHERE ({all:Bool} OR action = '')
  AND (toUnixTimestamp64Milli(clock), letters.epoch, letters.partition, letters.offset, letters.line, letters.reason)
    < ({c1:Int64}, {c2:UInt16}, {c3:UInt16}, {c4:UInt64}, {c5:Int32}, {c6:String})
ORDER BY clock DESC, letters.epoch DESC, letters.partition DESC, letters.offset DESC, letters.line DESC, letters.reason DESC
LIMIT {limit:UInt32}
