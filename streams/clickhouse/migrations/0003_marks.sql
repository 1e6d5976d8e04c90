-- Up to where a recovery once found every row that the frames account for: the next one checks onward from there. It is
-- here and not in Redis so that an older copy of the ledger brings an older mark.
CREATE TABLE IF NOT EXISTS usage_marks
(
    epoch     UInt16,
    partition UInt16,
    offset    UInt64,
    written   DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (epoch, partition)
