-- Whether payloads of dead letters stand that are to be gone.
SELECT count()
FROM dead_letters
WHERE received < fromUnixTimestamp64Milli(transform(tenant, {tenants:Array(String)}, {cutoffs:Array(Int64)}, {otherwise:Int64}))
  AND payload != ''
