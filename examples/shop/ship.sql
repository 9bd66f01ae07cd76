-- Takes the oldest new order: a second run takes the next one.
BEGIN;
SELECT coalesce(min(id), 0) AS oldest FROM orders WHERE state = 'new' \gset
UPDATE orders SET state = 'shipped' WHERE id = :oldest;
COMMIT;
