-- What became of a tenant's events: counted, duplicate, dead.
SELECT toInt64(sum(counted)), toInt64(sum(duplicates)), toInt64(sum(dead))
FROM usage_frames FINAL
WHERE tenant = {tenant:String}
