-- One dead letter, with what was done with it last.
SELECT
    letters.epoch, letters.partition, toInt64(letters.offset), letters.line, letters.reason, tenant, detail,
    payload, toUnixTimestamp64Milli(received), toUnixTimestamp64Milli(clock), action, by, toUnixTimestamp64Milli(at)
FROM (SELECT * FROM dead_letters FINAL) AS letters
LEFT JOIN (SELECT * FROM dead_letter_marks FINAL) AS marks
    ON marks.epoch = letters.epoch AND marks.partition = letters.partition AND marks.offset = letters.offset
    AND marks.line = letters.line AND marks.reason = letters.reason
WHERE letters.epoch = {epoch:UInt16} AND letters.partition = {partition:UInt16} AND letters.offset = {offset:UInt64}
  AND letters.line = {line:Int32} AND letters.reason = {reason:String}
