-- Every aggregation of one meter of one tenant over [start, end), by the value of one dimension (or all in one).
SELECT
    if({group_by:String} = '', '', dimensions[{group_by:String}]) AS value,
    toString(sum(quantities[{meter:String}])),
    toInt64(count()),
    toString(min(quantities[{meter:String}])),
    toString(max(quantities[{meter:String}])),
    toString(argMax(quantities[{meter:String}], (time, -toInt256(version)))),
    toInt64(uniqExactIf(uniques[{meter:String}], mapContains(uniques, {meter:String})))
FROM usage_events FINAL
WHERE tenant = {tenant:String}
  AND time >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
  AND voided = 0
  AND version NOT IN (SELECT target FROM usage_voids WHERE tenant = {tenant:String})
  AND mapContains(quantities, {meter:String})
  AND (empty({subjects:Array(String)}) OR has({subjects:Array(String)}, subject))
  AND arrayAll(wanted -> has(wanted.2, dimensions[wanted.1]), {filters:Array(Tuple(String, Array(String)))})
GROUP BY value
ORDER BY value
