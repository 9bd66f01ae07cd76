-- A transaction that reads: what is left of an item, and what was sold of it last.

\set item random(1, :items)

BEGIN;
SELECT stock, sold FROM item WHERE id = :item;
SELECT id, quantity FROM sale WHERE item = :item ORDER BY id DESC LIMIT 10;
COMMIT;
