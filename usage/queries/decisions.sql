-- A tenant's checks by window, feature and outcome.
SELECT
    toUnixTimestamp(if({window:String} = 'day', toStartOfDay(minute, 'UTC'), toStartOfHour(minute))) AS since,
    feature,
    allowed,
    shadowed,
    reason,
    sum(checks)
FROM gate_decisions FINAL
WHERE tenant = {tenant:String}
  AND minute >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND minute < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
  AND ({feature:String} = '' OR feature = {feature:String})
GROUP BY since, feature, allowed, shadowed, reason
ORDER BY since, feature, allowed, shadowed, reason
