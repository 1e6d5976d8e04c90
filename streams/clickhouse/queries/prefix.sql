-- The gapless prefix of usage_frames behind {mark} whose rows are there, as its length, and the row at its end.
-- A frame whose events or voids have no row, or too many, ends it just like a missing frame does.
WITH
    frames AS
    (
        SELECT toInt64(offset) AS at, counted + voided AS rows, voids
        FROM usage_frames FINAL
        WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) > {mark:Int64}
    ),
    events AS
    (
        SELECT toInt64(offset) AS at, uniqExact(line) AS rows
        FROM usage_events
        WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) > {mark:Int64}
        GROUP BY at
    ),
    taken_back AS
    (
        SELECT toInt64(offset) AS at, uniqExact(tenant, target, version) AS rows
        FROM usage_voids
        WHERE epoch = {epoch:UInt16} AND partition = {partition:UInt16} AND toInt64(offset) > {mark:Int64}
        GROUP BY at
    ),
    numbered AS
    (
        SELECT
            frames.at AS at,
            row_number() OVER (ORDER BY frames.at) AS number,
            frames.at = {mark:Int64} + number
                AND frames.rows = events.rows AND frames.voids = taken_back.rows AS good
        FROM frames
        LEFT JOIN events ON frames.at = events.at
        LEFT JOIN taken_back ON frames.at = taken_back.at
    )
SELECT toInt64(if(countIf(NOT good) = 0, count(), minIf(number, NOT good) - 1)) FROM numbered
