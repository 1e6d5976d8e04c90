-- What gates have decided, by the minute. A message that comes again has the same keys and the same counts.
CREATE TABLE IF NOT EXISTS gate_decisions
(
    minute   DateTime('UTC'),
    tenant   LowCardinality(String), -- empty where nobody knew the name
    feature  LowCardinality(String),
    reason   LowCardinality(String),
    source   LowCardinality(String),
    allowed  UInt8,
    shadowed UInt8,
    sender   String,
    number   UInt64,
    checks   UInt64
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(minute)
ORDER BY (tenant, minute, feature, reason, source, allowed, shadowed, sender, number)
