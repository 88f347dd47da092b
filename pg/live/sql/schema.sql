-- The schema attune_live. Doing it again changes nothing but functions that are out of date.

SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

-- One installation at a time: the others wait, and find it done.
SELECT pg_advisory_xact_lock(hashtextextended('attune_live.install', 0));

-- IF NOT EXISTS wants the right to create even where there is nothing to do.
DO $do$
BEGIN
    IF to_regnamespace('attune_live') IS NULL THEN
        CREATE SCHEMA attune_live;
    END IF;
END
$do$;

