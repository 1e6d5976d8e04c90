-- Rollups: what the ledger says of each hour, once the hour has sealed. All of it can be thrown away.

-- One row a (tenant, meter, hour, subject, dimensions), with the states of all aggregations; they merge by sum, min, max
-- and the union of `distinct`. Of two revisions of a row the newest stays. A row counts only if its revision is not below
-- its window's: a window's newer revision may no longer have it.
CREATE TABLE IF NOT EXISTS usage_hourly
(
    tenant     String CODEC(ZSTD(1)),
    meter      String CODEC(ZSTD(1)),
    hour       DateTime('UTC') CODEC(Delta, ZSTD(1)),
    subject    String CODEC(ZSTD(1)),
    dimensions Map(String, String) CODEC(ZSTD(1)),
    revision   UInt64 CODEC(ZSTD(1)),
    total      Decimal(38, 9) CODEC(ZSTD(1)),
    events     UInt64 CODEC(ZSTD(1)),
    least      Decimal(38, 9) CODEC(ZSTD(1)),
    greatest   Decimal(38, 9) CODEC(ZSTD(1)),
    latest     Tuple(time DateTime64(3, 'UTC'), position UInt64, quantity Decimal(38, 9)) CODEC(ZSTD(1)),
    distinct   Array(String) CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (tenant, meter, hour, subject, mapKeys(dimensions), mapValues(dimensions));

-- One row a (tenant, hour) that was computed, written after its rows in usage_hourly; a window without any is empty.
-- The revision is the position up to which it counts: 14 bits epoch, 36 bits offset (metering/rollup.py).
CREATE TABLE IF NOT EXISTS usage_windows
(
    tenant   String CODEC(ZSTD(1)),
    hour     DateTime('UTC') CODEC(Delta, ZSTD(1)),
    revision UInt64 CODEC(ZSTD(1)),
    computed DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(revision)
ORDER BY (tenant, hour);

-- Up to where every window that a record touches was computed at its position or later. A lost or older mark only makes
-- windows be computed again.
CREATE TABLE IF NOT EXISTS usage_rollup_marks
(
    epoch     UInt16,
    partition UInt16,
    offset    UInt64
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (epoch, partition)
