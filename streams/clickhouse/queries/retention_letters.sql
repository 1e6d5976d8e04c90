-- Clear the payloads of dead letters; reason, origin and position stay.
ALTER TABLE dead_letters UPDATE payload = ''
WHERE received < fromUnixTimestamp64Milli(transform(tenant, {tenants:Array(String)}, {cutoffs:Array(Int64)}, {otherwise:Int64}))
  AND payload != ''
