-- {count} events of one tenant in the hour that begins at {start}, as the writer would have written them: three meters,
-- 300 subjects, 8 languages. {first}: the number of the first; a number is an identity and a position.
INSERT INTO usage_events
    (tenant, time, source, id, type, subject, event, received, clock, catalog_version, quantities, uniques, dimensions,
     voided, partition, version)
SELECT
    {tenant:String},
    fromUnixTimestamp64Milli({start:Int64} + cityHash64(number) % 3600000, 'UTC') AS time,
    '/pms/berlin',
    lower(hex(sipHash64(number))),
    'call.completed',
    concat('room-', toString(cityHash64(number, 1) % 300)),
    concat('{"specversion":"1.0","id":"', lower(hex(sipHash64(number))), '","source":"/pms/berlin","type":"call.completed"}'),
    time,
    time,
    1,
    map('calls', toDecimal128(1, 9), 'voice_seconds', toDecimal128(5 + cityHash64(number, 2) % 895, 9),
        'languages', toDecimal128(1, 9)),
    map('languages', language),
    map('language', ['de', 'en', 'fr', 'it', 'ja', 'es', 'zh', 'ar'][1 + cityHash64(number, 3) % 8] AS language,
        'property', 'berlin'),
    0,
    0,
    bitNot(bitOr(bitShiftLeft({epoch:UInt64}, 50), bitOr(bitShiftLeft(intDiv(number, 100), 14), number % 100)))
FROM numbers({first:UInt64}, {count:UInt64})
