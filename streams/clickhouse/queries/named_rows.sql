-- Rows that bear the given names, up to record {upto}, and whether the voids up to there left them standing; and (last,
-- with an empty tenant) how many records after {mark} up to {upto} are accounted for, seen by the same query.
WITH taken_back AS
(
    SELECT tenant, target
    FROM usage_voids
    WHERE tenant IN (SELECT n.1 FROM (SELECT arrayJoin({names:Array(Tuple(String, String, String))}) AS n))
      AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
)
SELECT
    tenant, source, id, epoch, toInt64(offset), line, version, type, toUnixTimestamp64Milli(time),
    mapKeys(quantities), arrayMap(nanos -> toString(nanos), mapValues(quantities)),
    voided = 0 AND (tenant, version) NOT IN (SELECT tenant, target FROM taken_back)
FROM usage_events FINAL
WHERE tenant IN (SELECT n.1 FROM (SELECT arrayJoin({names:Array(Tuple(String, String, String))}) AS n))
  AND (tenant, source, id) IN (SELECT n.1, n.2, n.3 FROM (SELECT arrayJoin({names:Array(Tuple(String, String, String))}) AS n))
  AND (epoch < {epoch:UInt16} OR (epoch = {epoch:UInt16} AND toInt64(offset) <= {upto:Int64}))
UNION ALL
SELECT '', '', '', 0, toInt64(uniqExact(offset)), 0, 0, '', 0, [], [], 0
FROM usage_frames
WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16}
  AND toInt64(offset) > {mark:Int64} AND toInt64(offset) <= {upto:Int64}
