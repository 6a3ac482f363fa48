-- Batches from before 0002 had members of one source, each of its own group, and did not say so. Now every batch says it.

UPDATE batch b
SET source = array_fill(CASE b.kind WHEN 'warmstart' THEN 'demonstration' ELSE 'fresh' END, ARRAY[cardinality(b.episodes)])
WHERE b.source IS NULL;

UPDATE batch b
SET member_group = coalesce((SELECT array_agg(e.group_id ORDER BY u.n) FROM unnest(b.episodes) WITH ORDINALITY AS u(id, n)
                             JOIN episode e ON e.job = b.job AND e.id = u.id), '{}')
WHERE b.member_group IS NULL;

ALTER TABLE batch
    ALTER COLUMN source SET NOT NULL,
    ALTER COLUMN member_group SET NOT NULL,
    ADD CHECK (cardinality(source) = cardinality(episodes) AND cardinality(member_group) = cardinality(episodes));
