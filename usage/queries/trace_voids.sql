-- Voids that name an id, the earliest first, whether or not they found it.
SELECT source, id, dimensions, epoch, partition, toInt64(offset), line
FROM usage_events FINAL
WHERE tenant = {tenant:String} AND type = 'tallygate.void' AND dimensions['void_id'] = {id:String}
  AND ({source:String} = '' OR dimensions['void_source'] = {source:String})
ORDER BY version DESC
LIMIT 100
