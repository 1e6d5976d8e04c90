DELETE FROM usage_hourly
WHERE (tenant, hour) IN
    (SELECT w.1, toDateTime(w.2 * 3600, 'UTC') FROM (SELECT arrayJoin({windows:Array(Tuple(String, UInt32))}) AS w))
