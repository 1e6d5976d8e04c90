-- Dead letters of single events that bear an id, the earliest first; of conflicts the resend is meant.
WITH if(reason = 'conflict', JSONExtractRaw(payload, 'resent'), payload) AS event
SELECT epoch, partition, toInt64(offset), line, reason, detail, toUnixTimestamp64Milli(received)
FROM dead_letters FINAL
WHERE tenant = {tenant:String} AND line >= 0 AND JSONExtractString(event, 'id') = {id:String}
  AND ({source:String} = '' OR JSONExtractString(event, 'source') = {source:String})
ORDER BY epoch, partition, offset, line
LIMIT 100
