-- The rows that bear an id, the earliest first, with the void that took each back and the revision of its hour's rollup.
SELECT
    events.source, type, toUnixTimestamp64Milli(events.time), subject, toUnixTimestamp64Milli(received),
    toUnixTimestamp64Milli(events.clock), catalog_version, mapApply((name, nanos) -> (name, toString(nanos)), quantities),
    uniques, dimensions, voided, events.epoch, events.partition, toInt64(events.offset), events.line,
    taken.version != 0, taken.epoch, taken.partition, toInt64(taken.offset), taken.line,
    windows.revision, bitShiftRight(bitNot(events.version), 14)
FROM
(
    SELECT *, epoch, offset, line, toStartOfHour(time) AS hour
    FROM usage_events FINAL
    WHERE tenant = {tenant:String} AND id = {id:String} AND ({source:String} = '' OR source = {source:String})
) AS events
LEFT JOIN
(
    SELECT target, partition, version, epoch, offset, line
    FROM usage_voids WHERE tenant = {tenant:String} ORDER BY version DESC LIMIT 1 BY target
) AS taken ON taken.target = events.version
LEFT JOIN
(
    SELECT hour, max(revision) AS revision FROM usage_windows WHERE tenant = {tenant:String} GROUP BY hour
) AS windows ON windows.hour = events.hour
ORDER BY bitNot(events.version), events.source
LIMIT 100
