-- The windows stand at {revision} now.
INSERT INTO usage_windows (tenant, hour, revision)
SELECT w.1, toDateTime(w.2 * 3600, 'UTC'), {revision:UInt64}
FROM (SELECT arrayJoin({windows:Array(Tuple(String, UInt32))}) AS w)
