-- What became of a tenant's events: counted, duplicate, dead, and voided (on arrival or afterwards).
SELECT toInt64(sum(counted)), toInt64(sum(duplicates)), toInt64(sum(dead)), toInt64(sum(voided + voids))
FROM usage_frames FINAL
WHERE tenant = {tenant:String}
