-- Clear the payloads of one month. Identity, position and quantities are other columns and stay.
ALTER TABLE usage_events UPDATE event = '' IN PARTITION ID {month:String}
WHERE received < fromUnixTimestamp64Milli(transform(tenant, {tenants:Array(String)}, {cutoffs:Array(Int64)}, {otherwise:Int64}))
  AND event != ''
